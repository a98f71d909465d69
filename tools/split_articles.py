#!/usr/bin/env python3
"""Makes training, validation and test texts for `lm` from WikiExtractor output.

Each input file (plain or .xz) holds <doc id= url= title=> ... </doc> articles, a paragraph a line.
Tokens are words, with apostrophes inside them, and single other characters; case is kept. Articles
are split by a hash of their title, so an article is in the same text whatever file it stands in:
one of PARTS goes to valid.txt, one to test.txt, the others to train-<input>.txt."""
import argparse
import hashlib
import lzma
import os
import pathlib
import re
import sys

TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
TITLE = re.compile(r'<doc id="[^"]*" url="[^"]*" title="(.*)">$')


def open_text(path):
    return lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else open(
        path, encoding="utf-8")


def part_of(title, parts):
    return int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") % parts


def split(path, parts, train, held_out, counts):
    """held_out: the texts of parts 0 and 1. counts: articles and tokens by text's name."""
    out = None
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if line.startswith("<doc "):
                title = TITLE.match(line)
                if out is not None or title is None:
                    sys.exit(f"split_articles.py: {path}:{number}: not the begin of an article")
                part = part_of(title.group(1), parts)
                out = held_out[part] if part < len(held_out) else train
                counts.setdefault(out.name, [0, 0])[0] += 1
            elif line == "</doc>":
                out = None
            elif line:
                if out is None:
                    sys.exit(f"split_articles.py: {path}:{number}: text outside of an article")
                tokens = TOKEN.findall(line)
                out.write(" ".join(tokens) + "\n")
                counts[out.name][1] += len(tokens) + 1
    if out is not None:
        sys.exit(f"split_articles.py: {path}: ends inside an article")


def names_of(paths):
    """train-<name>.txt for each path: what of it lies below the folder that all share."""
    files = [path.resolve() for path in paths]
    common = pathlib.Path(os.path.commonpath([file.parent for file in files]))
    names = []
    for file in files:
        stem = "-".join(file.relative_to(common).parts).removesuffix(".xz").removesuffix(".txt")
        names.append(f"train-{stem}.txt")
    return names


def is_same(a, b):
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=pathlib.Path, help="plain or .xz")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder; made if missing")
    parser.add_argument("--parts", type=int, default=512, help="articles are hashed to [%(default)s]")
    options = parser.parse_args()
    if options.parts < 3:
        parser.error(f"--parts: {options.parts} must be at least 3")
    names = names_of(options.inputs)
    if len(set(names)) < len(names):
        parser.error("two inputs would give the same text")
    for name in ["valid.txt", "test.txt", *names]:
        for path in (options.out / name, options.out / (name + ".tmp")):
            if any(is_same(path, one) for one in options.inputs):
                parser.error(f"--out: {path} is an input")
    counts = {}

    def new(name):
        return open(options.out / (name + ".tmp"), "w", encoding="utf-8")

    def finish(name, text):
        text.close()
        os.replace(text.name, options.out / name)
        articles, tokens = counts.get(text.name, (0, 0))
        print(f"{name}: {articles} articles, {tokens} tokens with <eos>")

    try:
        options.out.mkdir(parents=True, exist_ok=True)
        held_out = {name: new(name) for name in ("valid.txt", "test.txt")}
        for path, name in zip(options.inputs, names):
            train = new(name)
            split(path, options.parts, train, tuple(held_out.values()), counts)
            finish(name, train)
        for name, text in held_out.items():
            finish(name, text)
    except (OSError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        sys.exit(f"split_articles.py: {error}")


main()
