#!/usr/bin/env python3
"""memory_html_test.py LM_PROGRAM MEMORY_PROGRAM [unittest arguments]: what the memory tool makes of
profiles for others to show: a page, trace events and a snapshot.

Exits with 77 where every test was skipped."""

import collections
import json
import pathlib
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

LM = pathlib.Path(sys.argv.pop(1)).resolve()
MEMORY = pathlib.Path(sys.argv.pop(1)).resolve()
CATEGORIES = ["parameter", "gradient", "optimizer_state", "activation", "workspace", "data", "index"]


def call(*arguments):
    return subprocess.run([*map(str, arguments)], text=True, timeout=240, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def figures_of(stretch):
    """(time, live bytes by category) at the begin of a recorded stretch and after each event."""
    live = collections.Counter()
    for _, size, category, *_ in stretch["live"]:
        live[CATEGORIES[category]] += size
    result = [(stretch["begin"], dict(live))]
    for time, _, change, _, category, *_ in stretch["events"]:
        live[CATEGORIES[category]] += change
        result.append((time, dict(live)))
    return result


class ProfileTest(unittest.TestCase):
    """Has the profiles of a run, and of one that memory does not suffice for."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        text = cls.folder / "text.txt"
        text.write_text("".join(f"w{i % 7} w{i % 11} w{i % 13} w{i * i % 97} .\n"
                                for i in range(400)))
        cls.profiles = {"whole": cls.folder / "<whole>", "failed": cls.folder / "failed"}
        train = [LM, "train", "--train", text, "--valid", text, "--steps", "4"]
        done = call(*train, "--memory-profile", cls.profiles["whole"])
        assert done.returncode == 0, done.stdout
        failed = call(*train, "--memory-profile", cls.profiles["failed"], "--memory-limit", "3MB")
        assert failed.returncode == 1, failed.stdout

    def profile(self, name):
        return json.loads((self.profiles[name] / "memory.json").read_text())

    def made(self, *arguments):
        done = call(MEMORY, *arguments)
        self.assertEqual(0, done.returncode, done.stdout)

    def page(self, name):
        path = self.folder / f"{name}.html"
        self.made("report", self.profiles[name], "--html", path)
        return path


class Page(ProfileTest):
    def test_needs_nothing_else(self):
        text = self.page("whole").read_text()
        self.assertEqual([], re.findall(r"""(?:src|href)\s*=|@import|url\((?!#)""", text))
        self.assertEqual({"http://www.w3.org/2000/svg"},
                         set(re.findall(r"https?://[^'\"\s]*", text)))

    def test_data(self):
        text = self.page("whole").read_text()
        embedded = re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.DOTALL)[1]
        self.assertNotIn("<", embedded)
        self.assertEqual(self.profile("whole"), json.loads(embedded)["profile"])


class Browser(ProfileTest):
    def setUp(self):
        names = ("chromium", "chromium-browser", "google-chrome")
        self.browser = next(filter(None, map(shutil.which, names)), None)
        if self.browser is None:
            self.skipTest("there is no " + ", ".join(names))

    def browse(self, page, *flags):
        return call(self.browser, "--headless", "--no-sandbox", "--disable-gpu", "--log-level=3",
                    f"--user-data-dir={self.folder / 'browser'}", "--window-size=1100,800",
                    "--virtual-time-budget=3000", *flags, page.as_uri()).stdout

    def root_of(self, page):
        """The attributes of the page's root once its script has run."""
        root = re.search("<html[^>]*>", self.browse(page, "--dump-dom"))
        if root is None:
            self.skipTest(f"{self.browser} does not start")
        return dict(re.findall(r'([\w-]+)="([^"]*)"', root[0]))

    def colours(self, page, *flags):
        """How many pixels a picture of the page has of each colour."""
        picture = self.folder / "picture.png"
        log = self.browse(page, *flags, f"--screenshot={picture}")
        self.assertTrue(picture.exists(), log)
        return colours_of(picture.read_bytes())

    def test_shows_a_run(self):
        page = self.page("whole")
        peak = max((figures for stretch in self.profile("whole")["recorded"]
                    for _, figures in figures_of(stretch)), key=lambda all: sum(all.values()))
        root = self.root_of(page)
        self.assertNotIn("data-error", root)
        self.assertEqual(7, int(root["data-drawn"]))
        colours = self.colours(page)
        self.assertGreater(len(colours), 100)
        styles = dict(re.findall(r"--(\w+): (#\w{6})", page.read_text()))
        for category in ("parameter", "optimizer_state", "gradient"):
            self.assertGreater(peak[category], 0)
            self.assertGreater(colours[styles[category]], 1000, category)

    def test_dark(self):
        page = self.page("whole")
        self.root_of(page)
        light, dark = (self.colours(page, f"--blink-settings=preferredColorScheme={scheme}")
                       for scheme in (1, 0))
        self.assertEqual("#ffffff", light.most_common(1)[0][0])
        self.assertLess(int(dark.most_common(1)[0][0][1:3], 16), 64)

    def test_shows_a_failure(self):
        page = self.page("failed")
        root = self.root_of(page)
        self.assertNotIn("data-error", root)
        self.assertGreaterEqual(int(root["data-drawn"]), 1)
        alarm = re.search(r"--alarm: (#\w{6})", page.read_text())[1]
        self.assertGreater(self.colours(page)[alarm], 100)

    def test_shows_nothing(self):
        profile = self.profile("whole")
        setup = dict(profile["recorded"][0], live=[], events=[])
        setup["at_peak"] = dict.fromkeys(setup["at_peak"], 0)
        profile.update(recorded=[setup], stretches=[setup], peak=0, events=0)
        self.profiles["empty"] = self.folder / "empty"
        self.profiles["empty"].mkdir()
        (self.profiles["empty"] / "memory.json").write_text(json.dumps(profile))
        root = self.root_of(self.page("empty"))
        self.assertNotIn("data-error", root)
        self.assertEqual("0", root["data-drawn"])

    def test_tells_of_errors(self):
        page = self.page("whole")
        page.write_text(page.read_text().replace("drawTables();", "drawTable();", 1)
                        .replace("function drawTables", "function drawOther"))
        self.assertIn("data-error", self.root_of(page))


def colours_of(png):
    """How many pixels a PNG (8 bits, RGB or RGBA, not interlaced) has of each colour."""
    place, packed = 8, b""
    while place < len(png):
        size, kind = struct.unpack_from(">I4s", png, place)
        content = png[place + 8:place + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", content)
            assert (depth, interlaced) == (8, 0) and colour in (2, 6)
        elif kind == b"IDAT":
            packed += content
        place += 12 + size
    step = 3 if colour == 2 else 4
    rows = zlib.decompress(packed)
    above = bytearray(step * width + step)
    result = collections.Counter()
    for y in range(height):
        begin = y * (step * width + 1)
        row = bytearray(step) + rows[begin + 1:begin + 1 + step * width]
        unfilter(rows[begin], row, above, step)
        result.update(row[x:x + 3].hex() for x in range(step, len(row), step))
        above = row
    return collections.Counter({f"#{name}": count for name, count in result.items()})


def unfilter(kind, row, above, step):
    """Of a row with `step` zeros before it, in place (PNG specification, section 9)."""
    for i in range(step, len(row) if kind else 0):
        left, up, corner = row[i - step], above[i], above[i - step]
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            middle = left + up - corner
            guess = min((left, up, corner), key=lambda value: abs(middle - value))
        row[i] = (row[i] + guess) & 255


class ChromeTrace(ProfileTest):
    def events(self, name):
        path = self.folder / f"{name}.json"
        self.made("export", self.profiles[name], "--chrome", path)
        return json.loads(path.read_text())["traceEvents"]

    def test_format(self):
        for event in self.events("whole"):
            self.assertIn(event["ph"], ("M", "X", "C", "B", "E", "i"))
            self.assertLessEqual({"name", "ts", "pid", "tid"}, set(event))

    def test_counters(self):
        profile, counted = self.profile("whole"), collections.defaultdict(list)
        for event in self.events("whole"):
            if event["ph"] == "C":
                counted[event["name"]].append((event["ts"], event["args"]["bytes"]))
        expected = collections.defaultdict(list)
        for stretch in profile["recorded"]:
            states = figures_of(stretch)
            for category in CATEGORIES:
                expected[category].append((states[0][0] / 1000, states[0][1].get(category, 0)))
            for (time, live), event in zip(states[1:], stretch["events"]):
                category = CATEGORIES[event[4]]
                expected[category].append((time / 1000, live[category]))
            expected["total"] += [(time / 1000, sum(live.values())) for time, live in states]
        del counted["reserved"]
        self.assertEqual(expected, counted)

    def test_scopes_nest(self):
        names, last, open_scopes = set(), 0, []
        for event in self.events("whole"):
            if event["ph"] == "B":
                open_scopes.append(event["name"])
                names.add("/".join(open_scopes))
            elif event["ph"] == "E":
                self.assertEqual(open_scopes.pop(), event["name"])
            else:
                continue
            self.assertGreaterEqual(event["ts"], last)
            last = event["ts"]
        self.assertEqual([], open_scopes)
        profile = self.profile("whole")
        scopes = {profile["texts"][event[6]] for stretch in profile["recorded"]
                  for event in stretch["events"]}
        self.assertEqual(scopes - {""}, scopes & names)
        self.assertLessEqual({"forward", "backward", "optimizer"}, names)

    def test_stretches(self):
        slices = [event for event in self.events("whole") if event["ph"] == "X"]
        self.assertEqual([f"step {step}" for step in range(1, 5)],
                         [event["name"] for event in slices if event["name"].startswith("step")])
        for before, after in zip(slices, slices[1:]):
            self.assertAlmostEqual(after["ts"], before["ts"] + before["dur"], 3)

    def test_instants(self):
        instants = [event["name"] for event in self.events("whole") if event["ph"] == "i"]
        self.assertEqual(["peak"], instants)
        failure = next(e for e in self.events("failed") if e["name"] == "out of memory")
        self.assertEqual(self.profile("failed")["failure"]["bytes"], failure["args"]["bytes"])


class SnapshotTest(ProfileTest):
    def snapshot(self, name):
        path = self.folder / f"{name}.pickle"
        self.made("export", self.profiles[name], "--pytorch", path)
        return pickle.loads(path.read_bytes())


class Snapshot(SnapshotTest):
    def test_live_bytes(self):
        for name in self.profiles:
            live, totals = {}, []
            for entry in self.snapshot(name)["device_traces"][0]:
                if entry["action"] == "alloc":
                    begin, end = entry["addr"], entry["addr"] + entry["size"]
                    self.assertFalse(any(begin < address + size and address < end
                                         for address, size in live.items()))
                    live[begin] = entry["size"]
                elif entry["action"] == "free_completed":
                    self.assertEqual(entry["size"], live.pop(entry["addr"]))
                else:
                    continue
                totals.append(sum(live.values()))
            expected = [sum(figures.values()) for stretch in self.profile(name)["recorded"]
                        for _, figures in figures_of(stretch)[1:]]
            # Between stretches that do not follow each other there are more.
            remaining = iter(totals)
            self.assertTrue(all(total in remaining for total in expected))
            self.assertEqual(max(expected), max(totals))

    def test_segment(self):
        (segment,) = self.snapshot("whole")["segments"]
        self.assertEqual(segment["total_size"], sum(block["size"] for block in segment["blocks"]))
        for block, after in zip(segment["blocks"], segment["blocks"][1:]):
            self.assertEqual(after["address"], block["address"] + block["size"])
        states = [sum(live.values()) for stretch in self.profile("whole")["recorded"]
                  for _, live in figures_of(stretch)]
        self.assertEqual(states[-1], segment["allocated_size"])
        # Addresses are used again.
        self.assertTrue(max(states) <= segment["total_size"] <= 1.2 * max(states))

    def test_frames(self):
        entry = next(entry for entry in self.snapshot("whole")["device_traces"][0]
                     if entry["action"] == "alloc"
                     and entry["frames"][0]["name"] == "softmax.logits")
        self.assertEqual([("workspace", "softmax.logits"), ("scope", "softmax"),
                          ("scope", "forward"), ("stretch", "step 1")],
                         [(frame["filename"], frame["name"]) for frame in entry["frames"]])
        self.assertEqual("workspace", entry["category"])

    def test_failure(self):
        profile = self.profile("failed")
        entries = self.snapshot("failed")["device_traces"][0]
        place = next(i for i, entry in enumerate(entries) if entry["action"] == "oom")
        self.assertEqual(profile["failure"]["bytes"], entries[place]["size"])
        self.assertEqual(profile["texts"][profile["failure"]["name"]],
                         entries[place]["frames"][0]["name"])
        self.assertEqual({"alloc"}, {entry["action"] for entry in entries[place - 5:place]})


class Viewer(SnapshotTest):
    """PyTorch's own readers of snapshots."""

    def setUp(self):
        try:
            from torch.cuda import _memory_viz
        except ImportError:
            self.skipTest("there is no torch")
        self.viewer = _memory_viz

    def test_plots(self):
        for name in self.profiles:
            snapshot = self.snapshot(name)
            for plot in (self.viewer.trace_plot, self.viewer.segment_plot):
                self.assertIn("snapshot.pickle", plot(snapshot))

    def test_tables(self):
        snapshot = self.snapshot("whole")
        self.assertIn("segments: 1", self.viewer.segsum(snapshot))
        self.assertIn("Device 0", self.viewer.trace(snapshot))
        graph = self.viewer.memory(snapshot, format_flamegraph=lambda lines: lines)
        self.assertEqual(snapshot["segments"][0]["total_size"],
                         sum(int(line.rsplit(" ", 1)[1]) for line in graph.splitlines()))


class Command(ProfileTest):
    def test_refuses(self):
        self.assertEqual(2, call(MEMORY, "export", self.profiles["whole"]).returncode)
        missing = call(MEMORY, "export", self.folder / "none", "--chrome", self.folder / "out")
        self.assertEqual(1, missing.returncode)
        self.assertIn("cannot be read", missing.stdout)
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    for _, reason in result.skipped:
        print("skipped:", reason)
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun == len(result.skipped) else 0)
