#!/usr/bin/env python3
"""compare_rules.py SOURCE_DIR PROGRAM PROGRAM: both must print the same lines, and every *_rules.h of
SOURCE_DIR/kernels must be among those that they print."""
import pathlib
import subprocess
import sys


def main():
    source, *programs = sys.argv[1:]
    ours, theirs = (subprocess.run([program], check=True, capture_output=True,
                                   text=True).stdout.splitlines() for program in programs)
    printer = pathlib.Path(source, "tests/rules/print_rules.cpp").read_text()
    for header in sorted(pathlib.Path(source, "kernels").glob("*_rules.h")):
        if f"kernels/{header.name}" not in printer:
            sys.exit(f"{header.name} is not compared")
    if len(ours) != len(theirs) or len(ours) < 1000:
        sys.exit(f"{len(ours)} and {len(theirs)} values")
    different = [(a, b) for a, b in zip(ours, theirs) if a != b]
    for a, b in different[:20]:
        print(f"{a}, nvcc: {b.split()[-1]}")
    if different:
        sys.exit(f"{len(different)} of {len(ours)} values differ")
    print(f"{len(ours)} values, all the same")


main()
