#!/usr/bin/env python3
"""Makes lines for `xc` of a treebank in CoNLL-U: a row for each word, `features TAB arc`.

The arc is what a greedy parser has to find for the word: its relation and how far its head is, from
-5 to +5 (farther counts as that; the root has distance 0), as `nsubj+2`. Features are words of
letters and digits, which `xc prepare --features words` keeps as they are: the form, the last three
letters and the part of speech of the word and of two words on each side, and pairs of neighbouring
parts of speech."""
import argparse
import hashlib
import lzma
import os
import pathlib
import sys


def open_lines(path):
    return lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else open(
        path, encoding="utf-8")


def feature(kind, value):
    return kind + hashlib.md5(value.encode()).hexdigest()[:10]


def features_of(words, at):
    def field(offset, name):
        place = at + offset
        return words[place][name] if 0 <= place < len(words) else "none"

    result = []
    for offset in range(-2, 3):
        kind = "abcde"[offset + 2]
        form = field(offset, "form").lower()
        result.append(feature(kind + "f", form))
        result.append(feature(kind + "s", form[-3:]))
        result.append(feature(kind + "p", field(offset, "pos")))
    for offset in range(-2, 2):
        pair = field(offset, "pos") + " " + field(offset + 1, "pos")
        result.append(feature("pq"[offset >= 0] + "xy"[offset % 2], pair))
    return result


def arc_of(words, at):
    head = words[at]["head"]
    distance = 0 if head == 0 else max(-5, min(5, head - (at + 1)))
    return "%s%+d" % (words[at]["relation"], distance)


def write_sentence(words, out):
    for at in range(len(words)):
        out.write("%s\t%s\n" % (" ".join(features_of(words, at)), arc_of(words, at)))
    return len(words)


def convert(path, out):
    words = []
    count = 0
    with open_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\n")
            if line.startswith("#"):
                continue
            if not line:
                count += write_sentence(words, out)
                words = []
                continue
            fields = line.split("\t")
            if len(fields) != 10:
                sys.exit(f"ud_arcs_tsv.py: {path}:{number}: {len(fields)} fields, a word has 10")
            if not fields[0].isdigit():  # a contraction, or a word that is left out
                continue
            if not fields[6].isdigit() or int(fields[0]) != len(words) + 1:
                sys.exit(f"ud_arcs_tsv.py: {path}:{number}: word {fields[0]} with head {fields[6]}")
            words.append({"form": fields[1], "pos": fields[3], "head": int(fields[6]),
                          "relation": fields[7]})
    return count + write_sentence(words, out)


def is_same(a, b):
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=pathlib.Path, help="plain or .xz")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the file of rows")
    options = parser.parse_args()
    unfinished = options.out.with_name(options.out.name + ".tmp")
    for path in (options.out, unfinished):
        if is_same(path, options.input):
            parser.error(f"--out: {path} is the input")
    try:
        with open(unfinished, "w", encoding="utf-8") as out:
            count = convert(options.input, out)
        os.replace(unfinished, options.out)
    except (OSError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        sys.exit(f"ud_arcs_tsv.py: {error}")
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{options.out.name}: {count} rows")


main()
