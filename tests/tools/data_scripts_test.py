#!/usr/bin/env python3
"""data_scripts_test.py SOURCE_DIR [unittest arguments]: tools/split_classes.py,
tools/source_files_tsv.py, tools/ud_arcs_tsv.py and tools/split_articles.py."""

import collections
import gzip
import lzma
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(sys.argv.pop(1)) / "tools"


class ScriptTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out"

    def call(self, script, *arguments):
        return subprocess.run([sys.executable, TOOLS / script, *map(str, arguments)], text=True,
                              timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def file(self, name, content):
        path = self.folder / name
        packed = {".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
        path.write_bytes(packed(content.encode()))
        return path

    def check_help(self, script):
        shown = self.call(script, "--help")
        self.assertEqual(0, shown.returncode)
        self.assertIn("usage: ", shown.stdout)
        self.assertEqual(2, self.call(script, "--nonsense").returncode)

    def refused(self, problem, *call):
        result = self.call(*call)
        self.assertEqual(1, result.returncode, result.stdout)
        self.assertIn(problem, result.stdout)
        self.assertEqual(1, result.stdout.count("\n"), result.stdout)


    def input_is_kept(self, script, path, out):
        before = path.read_bytes()
        result = self.call(script, path, "--out", out)
        self.assertEqual(2, result.returncode, result.stdout)
        self.assertIn("input", result.stdout)
        self.assertEqual(before, path.read_bytes())


class Split(ScriptTest):
    def split(self, content, *flags, name="in.tsv"):
        done = self.call("split_classes.py", self.file(name, content), "--out", self.out, *flags)
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertEqual({"train.tsv", "test.tsv"}, set(os.listdir(self.out)))
        self.figures = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
        return [(self.out / part).read_text().splitlines() for part in ("train.tsv", "test.tsv")]

    # Class c<n> has n rows.
    ROWS = [f"text {n} {i}\tc{n}" for i in range(40) for n in range(1, 41) if i < n]
    TEXT = "\n".join(ROWS) + "\n"

    def test_flags(self):
        self.check_help("split_classes.py")
        path = self.file("a", "x\ty\n")
        for flags in (["--max-rows", "-1"], ["--min-rows", "1"], ["--held-out", "101"]):
            refused = self.call("split_classes.py", path, "--out", self.out, *flags)
            self.assertEqual(2, refused.returncode)
            self.assertIn(flags[0], refused.stdout)

    def test_the_input_is_kept(self):
        for name in ("train.tsv", "test.tsv.tmp"):
            self.input_is_kept("split_classes.py", self.file(name, self.TEXT), self.folder)

    def test_all_rows_of_kept_classes_are_in_one_part(self):
        train, test = self.split(self.TEXT, "--max-rows", 30, "--min-rows", 4, "--held-out", 20)
        kept = [row for row in self.ROWS if int(row.rpartition("\tc")[2]) <= 30]
        self.assertEqual(sorted(kept), sorted(train + test))
        in_test = set(test)
        self.assertEqual(train, [row for row in kept if row not in in_test])
        can_be = sum(range(4, 31))
        self.assertAlmostEqual(len(test) / can_be, 0.2, delta=0.06)
        self.assertLessEqual(4, min(int(row.rpartition("\tc")[2]) for row in test))
        self.assertEqual(
            {"rows": str(len(self.ROWS)), "rows dropped": str(sum(range(31, 41))),
             "rows that could be held out": str(can_be), "train.tsv": str(len(train)),
             "test.tsv": str(len(test)), "classes": "40", "classes dropped": "10"}, self.figures)

    def test_every_class_keeps_a_row_for_training(self):
        train, test = self.split(self.TEXT, "--held-out", 100, "--min-rows", 2)
        rows = collections.Counter(row.rpartition("\t")[2] for row in train)
        self.assertEqual({f"c{n}": 1 for n in range(1, 41)}, dict(rows))
        self.assertEqual(len(self.ROWS), len(train + test))

    def test_parts_do_not_hang_on_order_or_packing(self):
        _, test = self.split(self.TEXT, "--held-out", 10)
        for name in ("a.xz", "a.gz"):
            mixed = "\r\n".join(reversed(self.ROWS))
            _, again = self.split(mixed, "--held-out", 10, name=name)
            self.assertEqual(sorted(test), sorted(again))

    def test_several_labels(self):
        big = "".join(f"{i}\tbig\n" for i in range(5))
        train, test = self.split(big + "t\tbig\ta\ta\t\nu\tbig\nv\t\nw\ta\tb\n", "--max-rows", 5,
                                 "--min-rows", 2, "--held-out", 100)
        # b has one row only, so that w stays, and t was held out before.
        self.assertEqual((["w\ta\tb"], ["t\ta"]), (train, test))
        self.assertEqual("7", self.figures["rows dropped"])

    def test_no_bound(self):
        train, test = self.split(self.TEXT, "--max-rows", 0, "--held-out", 0)
        self.assertEqual((self.ROWS, []), (train, test))

    def test_scopes_are_dropped_and_rows_split_as_before(self):
        rows = [f"@scope{i % 3}/name{i}\tc{i % 5}" for i in range(200)]
        rows += ["@/x\tc0", "@no-slash\tc0", "a/b\tc0"]
        text = "\n".join(rows)
        parts = self.split(text, "--held-out", 20)
        dropped = self.split(text, "--held-out", 20, "--drop-scope")
        for with_scope, without in zip(parts, dropped):
            self.assertEqual([row if row.startswith(("@no", "a/")) else row.partition("/")[2]
                              for row in with_scope], without)

    def test_bad_input(self):
        def refused(problem, path):
            self.refused(problem, "split_classes.py", path, "--out", self.out)
            self.assertFalse(self.out.exists() and os.listdir(self.out))
        refused("in:2: no TAB", self.file("in", "a\tb\nc\n"))
        refused("missing", self.folder / "missing")
        whole = lzma.compress(self.TEXT.encode())
        cut = self.folder / "cut.xz"
        cut.write_bytes(whole[:len(whole) // 2])
        refused("split_classes.py: ", cut)
        cut = self.folder / "bad.gz"
        cut.write_bytes(gzip.compress(self.TEXT.encode())[:40] + bytes(100))
        refused("split_classes.py: ", cut)


class SourceFiles(ScriptTest):
    LIST = "\t0ad\na/b/c.h\ntop\n\tx,y-z,w\na/c.h\n"

    def test_flags(self):
        self.check_help("source_files_tsv.py")
        path = self.file("a", self.LIST)
        refused = self.call("source_files_tsv.py", path, "--out", self.out, "--max-packages", 0)
        self.assertEqual(2, refused.returncode)

    def test_the_input_is_kept(self):
        path = self.file("a", self.LIST)
        self.input_is_kept("source_files_tsv.py", path, path)
        self.input_is_kept("source_files_tsv.py", self.file("b.tmp", self.LIST), self.folder / "b")

    def test_rows(self):
        for name in ("in", "in.xz", "in.gz"):
            done = self.call("source_files_tsv.py", self.file(name, self.LIST), "--out", self.out,
                             "--max-packages", 2)
            self.assertEqual((0, "out: 3 rows\n"), (done.returncode, done.stdout))
            self.assertEqual("a/b 0ad\tc.h\n0ad\ttop\na x y-z\tc.h\n", self.out.read_text())

    def test_marks(self):
        listed = self.file("in", "\tp\na/b-c.d/e\na/--/f\nx-1/g\nh\n")
        done = self.call("source_files_tsv.py", listed, "--out", self.out, "--mark-last")
        self.assertEqual((0, "out: 4 rows\n"), (done.returncode, done.stdout))
        self.assertEqual("a/b-c.d @bcd p\te\na/-- p\tf\nx-1 @x1 p\tg\np\th\n",
                         self.out.read_text())

    def test_bad_input(self):
        for content, problem in (("a/b\n", "in:1: a path above all packages"),
                                 ("\tp\na/\n", "in:2: no file's name"),
                                 ("\tp\na\tb\n", "in:2: a TAB in a path")):
            self.refused(problem, "source_files_tsv.py", self.file("in", content), "--out", self.out)
            self.assertEqual(["in"], os.listdir(self.folder))


class UdArcs(ScriptTest):
    TREE = ("# text\n1\tDogs\tdog\tNOUN\tX\t_\t2\tnsubj\t_\t_\n"
            "1-2\tx\t_\t_\t_\t_\t_\t_\t_\t_\n2\tbark\tbark\tVERB\tX\t_\t0\troot\t_\t_\n"
            "3\t!\t!\tPUNCT\tX\t_\t2\tpunct\t_\t_\n\n"
            "1\tdogs\tdog\tNOUN\tX\t_\t0\troot\t_\t_\n")

    def test_flags(self):
        self.check_help("ud_arcs_tsv.py")

    def test_the_input_is_kept(self):
        path = self.file("a", self.TREE)
        self.input_is_kept("ud_arcs_tsv.py", path, path)

    def test_rows(self):
        for name in ("in", "in.xz"):
            done = self.call("ud_arcs_tsv.py", self.file(name, self.TREE), "--out", self.out)
            self.assertEqual((0, "out: 4 rows\n"), (done.returncode, done.stdout))
            rows = [line.split("\t") for line in self.out.read_text().splitlines()]
            self.assertEqual(["nsubj+1", "root+0", "punct-1", "root+0"], [row[1] for row in rows])
            features = [row[0].split() for row in rows]
            self.assertEqual([19] * 4, [len(set(row)) for row in features])
            # Upper case does not matter, what stands beside does.
            self.assertEqual(features[0][:9], features[3][:9])
            self.assertNotEqual(features[0], features[3])

    def test_bad_input(self):
        for content, problem in (("a b\n", "in:1: 1 fields"),
                                 ("2\tx\t_\tX\t_\t_\t0\troot\t_\t_\n", "in:1: word 2"),
                                 ("1\tx\t_\tX\t_\t_\t_\troot\t_\t_\n", "in:1: word 1")):
            self.refused(problem, "ud_arcs_tsv.py", self.file("in", content), "--out", self.out)
            self.assertEqual(["in"], os.listdir(self.folder))


class Articles(ScriptTest):
    TEXT = '<doc id="1" url="u" title="a">\nOne text\n</doc>\n'

    def test_flags(self):
        self.check_help("split_articles.py")

    def test_the_input_is_kept(self):
        for name in ("valid.txt", "test.txt.tmp"):
            self.input_is_kept("split_articles.py", self.file(name, self.TEXT), self.folder)

    def test_articles(self):
        done = self.call("split_articles.py", self.file("in.txt", self.TEXT), "--out", self.out)
        self.assertEqual(0, done.returncode, done.stdout)
        texts = [(self.out / name).read_text() for name in sorted(os.listdir(self.out))]
        self.assertEqual("One text\n", "".join(texts))


if __name__ == "__main__":
    unittest.main()
