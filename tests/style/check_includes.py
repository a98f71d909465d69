#!/usr/bin/env python3
"""check_includes.py SOURCE_DIR: the rules about who may include whom.

- kernels <- framework <- {layers, optim} <- {apps, tools} <- tests; layers and optim never include
  each other, nor does one app another, nor one tool another; tools may include any app.
- Own headers are spelled "sketchgrad/<folder>/x.h" and exist; quotes are for them alone.
- No header that a .cu file sees includes fmt (fmt 9 does not compile under nvcc in C++20).
"""

import argparse
import pathlib
import re
import sys

KERNELS = {"kernels"}
FRAMEWORK = KERNELS | {"framework"}
LIBRARIES = FRAMEWORK | {"layers", "optim"}
ALLOWED = {
    "kernels": KERNELS,
    "framework": FRAMEWORK,
    "layers": FRAMEWORK | {"layers"},
    "optim": FRAMEWORK | {"optim"},
    "apps": LIBRARIES | {"apps"},
    "tools": LIBRARIES | {"apps", "tools"},
    "tests": LIBRARIES | {"apps", "tools", "tests"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
PREFIX = "sketchgrad/"


def includes_of(path):
    """(line number, quote, spelling) of every include of a file."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if match := INCLUDE.match(line):
                yield number, match[1], match[2]


def unit(path):
    """The app or tool that a file belongs to, e.g. apps/lm; None where any may include it."""
    parts = path.split("/")
    if parts[0] not in ("apps", "tools") or len(parts) < 3 or parts[1] == "common":
        return None
    return "/".join(parts[:2])


def check_include(path, quote, spelling, headers):
    """What is wrong with one include, or None."""
    if not spelling.startswith(PREFIX):
        if quote == '"':
            return 'quotes are for own headers, spelled "sketchgrad/<folder>/x.h"'
        return None
    if quote == "<":
        return "own headers are included in quotes"
    target = spelling[len(PREFIX):]
    if target not in headers:
        return f"there is no {target}"
    source_folder, target_folder = path.split("/")[0], target.split("/")[0]
    if target_folder not in ALLOWED[source_folder]:
        return f"{source_folder} must not include {target_folder}"
    if source_folder == target_folder and unit(target) not in (None, unit(path)):
        return f"{unit(path) or path} must not include {unit(target)}"
    return None


def check_cuda_file(path, includes):
    """Ways from a .cu file to fmt, each told by the file that includes it."""
    problems, seen, queue = [], {path}, [path]
    while queue:
        current = queue.pop()
        for number, _, spelling in includes[current]:
            if spelling.startswith("fmt/"):
                problems.append(f"{current}:{number}: <{spelling}> is seen by {path}")
            target = spelling[len(PREFIX):]
            if spelling.startswith(PREFIX) and target in includes and target not in seen:
                seen.add(target)
                queue.append(target)
    return problems


def check_tree(root):
    paths = sorted(
        path.relative_to(root).as_posix()
        for folder in ALLOWED
        for suffix in ("h", "cuh", "cpp", "cu")
        for path in (root / folder).rglob(f"*.{suffix}"))
    includes = {path: list(includes_of(root / path)) for path in paths}
    problems = []
    for path in paths:
        for number, quote, spelling in includes[path]:
            if problem := check_include(path, quote, spelling, includes):
                problems.append(f'{path}:{number}: {spelling}: {problem}')
        if path.endswith(".cu"):
            problems += check_cuda_file(path, includes)
    return len(paths), problems


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source_dir", type=pathlib.Path)
    count, problems = check_tree(parser.parse_args().source_dir)
    for problem in problems:
        print(problem)
    print(f"{count} files, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
