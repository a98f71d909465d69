#!/usr/bin/env python3
"""That check_includes.py finds what it is there to find."""

import pathlib
import tempfile
import unittest

import check_includes


class CheckIncludes(unittest.TestCase):
    def problems(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            return check_includes.check_tree(root)[1]

    def test_accepts_the_order_of_folders(self):
        self.assertEqual([], self.problems({
            "kernels/a.h": "#include <vector>\n",
            "framework/b.h": '#include <fmt/format.h>\n#include "sketchgrad/kernels/a.h"\n',
            "layers/c.h": '#include "sketchgrad/framework/b.h"\n',
            "apps/common/d.h": '#include "sketchgrad/layers/c.h"\n',
            "apps/lm/e.cpp": '#include "sketchgrad/apps/common/d.h"\n',
            "tests/layers/f.cpp": '#include "sketchgrad/layers/c.h"\n',
            "kernels/a_cuda.cu": '#include "sketchgrad/kernels/a.h"\n',
        }))

    def test_refuses_to_look_up(self):
        self.assertEqual(["kernels/a.h:1: sketchgrad/framework/b.h: kernels must not include framework"],
                         self.problems({"kernels/a.h": '#include "sketchgrad/framework/b.h"\n',
                                        "framework/b.h": ""}))

    def test_keeps_layers_and_optim_apart(self):
        for one, other in (("layers", "optim"), ("optim", "layers")):
            found = self.problems({f"{one}/a.cpp": f'#include "sketchgrad/{other}/b.h"\n',
                                   f"{other}/b.h": ""})
            self.assertEqual(1, len(found))
            self.assertIn(f"{one} must not include {other}", found[0])

    def test_keeps_apps_apart(self):
        found = self.problems({"apps/lm/a.cpp": '#include "sketchgrad/apps/xc/b.h"\n',
                               "apps/xc/b.h": ""})
        self.assertEqual(["apps/lm/a.cpp:1: sketchgrad/apps/xc/b.h: apps/lm must not include apps/xc"],
                         found)

    def test_keeps_tools_apart_but_not_from_apps(self):
        found = self.problems({"tools/memory/a.cpp": '#include "sketchgrad/tools/bench/b.h"\n'
                                                     '#include "sketchgrad/apps/lm/c.h"\n',
                               "tools/bench/b.h": "", "apps/lm/c.h": ""})
        self.assertEqual(["tools/memory/a.cpp:1: sketchgrad/tools/bench/b.h: "
                          "tools/memory must not include tools/bench"], found)

    def test_wants_one_spelling(self):
        for include in ('"b.h"', '"kernels/b.h"', "<sketchgrad/kernels/b.h>"):
            self.assertEqual(1, len(self.problems({"kernels/a.cpp": f"#include {include}\n",
                                                   "kernels/b.h": ""})), include)

    def test_wants_the_header_to_exist(self):
        found = self.problems({"kernels/a.cpp": '#  include "sketchgrad/kernels/gone.h"\n'})
        self.assertEqual(["kernels/a.cpp:1: sketchgrad/kernels/gone.h: there is no kernels/gone.h"],
                         found)

    def test_finds_fmt_behind_cuda_files(self):
        found = self.problems({
            "kernels/a.cu": '#include "sketchgrad/kernels/b.h"\n',
            "kernels/b.h": '#include "sketchgrad/kernels/c.h"\n',
            "kernels/c.h": '#include "sketchgrad/kernels/b.h"\n#include <fmt/format.h>\n',
        })
        self.assertEqual(["kernels/c.h:2: <fmt/format.h> is seen by kernels/a.cu"], found)


if __name__ == "__main__":
    unittest.main()
