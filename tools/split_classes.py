#!/usr/bin/env python3
"""Makes train.tsv and test.tsv for `xc` from lines `text TAB label [TAB label]...`.

Classes with more than MAX rows (placeholders, spam) are dropped, and rows without any other class.
Of the rest, PERCENT are chosen by a hash of the row's text and remaining classes, and by nothing
else. A chosen row is held out only if each of its classes has at least MIN rows and keeps one in
train.tsv, so that a test asks for nothing that training could not know. So when other rows come, go
or change places, a row can change files only where this, or which of its classes are dropped, does.

The input is read twice. What is held is an entry a class, about 100 bytes and its name."""
import argparse
import gzip
import hashlib
import lzma
import os
import pathlib
import sys
import zlib

HASHES = 1 << 32


def open_lines(path):
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def rows(path):
    """(text, labels) of each line; repeated labels once, empty ones never."""
    with open_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            text, *labels = line.rstrip(b"\r\n").split(b"\t")
            if not labels:
                sys.exit(f"split_classes.py: {path}:{number}: no TAB; a line is text TAB label")
            if len(labels) > 1 or not labels[0]:
                labels = list(dict.fromkeys(label for label in labels if label))
            yield text, labels


def is_chosen(text, labels, percent):
    line = b"\t".join([text, *labels])
    hashed = int.from_bytes(hashlib.blake2b(line, digest_size=4).digest(), "big")
    return hashed < percent / 100 * HASHES


def without_scope(text):
    """@scope/name is name."""
    slash = text.find(b"/")
    return text[slash + 1:] if text.startswith(b"@") and slash > 0 else text


def count_classes(path):
    counts = {}
    for _, labels in rows(path):
        for label in labels:
            counts[label] = counts.get(label, 0) + 1
    return counts


def split(options, train, test):
    """Writes both and returns figures by name."""
    counts = count_classes(options.input)
    most = options.max_rows or max(counts.values(), default=0)
    held = {}  # rows of a class that are in test.tsv
    figures = {"rows": 0, "rows dropped": 0, "rows that could be held out": 0, "train.tsv": 0,
               "test.tsv": 0}

    def can_be_held_out(label):
        return counts[label] >= options.min_rows

    for text, labels in rows(options.input):
        figures["rows"] += 1
        labels = [label for label in labels if counts[label] <= most]
        if not labels:
            figures["rows dropped"] += 1
            continue
        out = train
        if all(map(can_be_held_out, labels)):
            figures["rows that could be held out"] += 1
            if (is_chosen(text, labels, options.held_out) and
                    all(counts[label] - held.get(label, 0) > 1 for label in labels)):
                out = test
                for label in labels:
                    held[label] = held.get(label, 0) + 1
        figures["train.tsv" if out is train else "test.tsv"] += 1
        if options.drop_scope:
            text = without_scope(text)
        out.write(b"\t".join([text, *labels]) + b"\n")
    figures["classes"] = len(counts)
    figures["classes dropped"] = sum(count > most for count in counts.values())
    return figures


def is_same(a, b):
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=pathlib.Path, help="plain, .xz or .gz")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder; made if missing")
    parser.add_argument("--max-rows", type=int, default=500, metavar="MAX",
                        help="0: no class is dropped [%(default)s]")
    parser.add_argument("--min-rows", type=int, default=3, metavar="MIN", help="[%(default)s]")
    parser.add_argument("--held-out", type=float, default=1, metavar="PERCENT",
                        help="of the rows that can be held out [%(default)s]")
    parser.add_argument("--drop-scope", action="store_true",
                        help="write the text @scope/name as name; rows are split as without this")
    options = parser.parse_args()
    if options.max_rows < 0:
        parser.error(f"--max-rows: {options.max_rows} must be at least 0")
    if options.min_rows < 2:
        parser.error(f"--min-rows: {options.min_rows} must be at least 2")
    if not 0 <= options.held_out <= 100:
        parser.error(f"--held-out: {options.held_out} must be from 0 to 100")
    names = ("train.tsv", "test.tsv")
    for name in names:
        for path in (options.out / name, options.out / (name + ".tmp")):
            if is_same(path, options.input):
                parser.error(f"--out: {path} is the input")
    unfinished = []
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        unfinished = [options.out / (name + ".tmp") for name in names]
        with open(unfinished[0], "wb") as train, open(unfinished[1], "wb") as test:
            figures = split(options, train, test)
        for name in names:
            os.replace(options.out / (name + ".tmp"), options.out / name)
    except (OSError, lzma.LZMAError, zlib.error, EOFError) as error:
        sys.exit(f"split_classes.py: {error}")
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)
    for name, count in figures.items():
        print(f"{name}: {count}")


main()
