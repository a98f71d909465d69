#!/usr/bin/env python3
"""Makes lines for `xc` of a list of source packages' files: `directory packages TAB file name`.

In the list a line that begins with a TAB names packages, with commas between them, and the lines
below are the paths of the files in them. (Debian's Contents-source, regrouped so.) A row's text is
the path of the file's directory, which is nothing for files at the top, and the packages: the first
MAX of them, since there are files that tens of thousands share. With --mark-last the last directory
stands once more, as one word: its letters and digits behind an @, which `xc` keeps with the word."""
import argparse
import gzip
import lzma
import os
import pathlib
import re
import sys
import zlib


def open_lines(path):
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def marked(directory):
    """b"usr/lib/site-packages" -> b"usr/lib/site-packages @sitepackages"."""
    word = re.sub(rb"[^A-Za-z0-9\x80-\xff]", b"", directory.rpartition(b"/")[2])
    return directory + b" @" + word if word else directory


def convert(path, most_packages, mark_last, out):
    packages = None
    count = 0
    with open_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip(b"\r\n")
            if line.startswith(b"\t"):
                packages = b" ".join(line[1:].split(b",")[:most_packages])
                continue
            directory, _, name = line.rpartition(b"/")
            if packages is None or not name or b"\t" in line:
                problem = ("a path above all packages" if packages is None else
                           "no file's name" if not name else "a TAB in a path")
                sys.exit(f"source_files_tsv.py: {path}:{number}: {problem}")
            if mark_last:
                directory = marked(directory)
            out.write(b"%b %b\t%b\n" % (directory, packages, name) if directory else
                      b"%b\t%b\n" % (packages, name))
            count += 1
    return count


def is_same(a, b):
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=pathlib.Path, help="plain, .xz or .gz")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the file of rows")
    parser.add_argument("--max-packages", type=int, default=8, metavar="MAX", help="[%(default)s]")
    parser.add_argument("--mark-last", action="store_true")
    options = parser.parse_args()
    if options.max_packages < 1:
        parser.error(f"--max-packages: {options.max_packages} must be at least 1")
    unfinished = options.out.with_name(options.out.name + ".tmp")
    for path in (options.out, unfinished):
        if is_same(path, options.input):
            parser.error(f"--out: {path} is the input")
    try:
        with open(unfinished, "wb") as out:
            count = convert(options.input, options.max_packages, options.mark_last, out)
        os.replace(unfinished, options.out)
    except (OSError, lzma.LZMAError, zlib.error, EOFError) as error:
        sys.exit(f"source_files_tsv.py: {error}")
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{options.out.name}: {count} rows")


main()
