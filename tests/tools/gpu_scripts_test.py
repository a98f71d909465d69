#!/usr/bin/env python3
"""gpu_scripts_test.py SOURCE_DIR [unittest arguments]: tools/gpu_*.sh, with tiny shell scripts in
place of GPU tests, sanitizer and benchmarks."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(sys.argv.pop(1)) / "tools"
PASSES = "echo fine"
FAILS = "echo broken; exit 3"
SKIPS = 'echo "skipped: no GPU (it \\"said\\" so)"; exit 77'
HANGS = "sleep 60"
# As a peer does; says what it was called with.
WRITES_JSON = ('echo "$@"; for last; do :; done; '
               '[[ $last != *.json ]] || echo "{\\"lines\\": [$#]}" >"$last"')
BENCH = 'if [[ $1 == --help ]]; then echo "--device --precision"; else echo "$@"; fi'


class GpuScriptTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        self.root = self.folder / "root"
        self.results = self.folder / "results of a run"
        self.path = self.folder / "path"
        self.path.mkdir()

    def script(self, path, body):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

    def call(self, script, *arguments):
        # Ours come first, and nobody's GPU or sanitizer counts.
        environment = dict(os.environ, PATH=f"{self.path}:{os.environ['PATH']}")
        return subprocess.run([script, *arguments], env=environment, text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def check_flags(self, name):
        shown = self.call(TOOLS / name, "--help")
        self.assertEqual(0, shown.returncode)
        self.assertIn("usage: ", shown.stdout)
        for arguments in (["--nonsense"], ["nonsense"], ["--results-of-yesterday", "x"]):
            refused = self.call(TOOLS / name, *arguments)
            self.assertEqual(2, refused.returncode)
            self.assertIn(f"{name}: unknown argument '{arguments[0]}' (see --help)",
                          refused.stdout)


class Run(GpuScriptTest):
    def setUp(self):
        super().setUp()
        self.script(self.path / "nvidia-smi", "exit 9")
        self.script(self.path / "python3", "exit 1")  # has no PyTorch
        self.script(self.path / "compute-sanitizer",
                    'while [[ $1 == --* ]]; do case $1 in --tool | --error-exitcode |'
                    ' --report-api-errors) shift ;; esac; shift; done; exec "$@"')

    def run_tests(self, programs, *arguments):
        """The process and what it wrote."""
        for name, body in programs.items():
            self.script(self.root / name, body)
        process = self.call(TOOLS / "gpu_run.sh", "--root", self.root, "--results", self.results,
                            "--commit", "abc", *arguments)
        return process, json.loads((self.results / "results.json").read_text())

    def with_gpu(self):
        self.script(self.path / "nvidia-smi", 'echo "NVIDIA X, 80GB, 580.1"')

    def statuses(self, results):
        return {entry["name"]: entry["status"] for entry in results["programs"]}

    def last_line(self, process):
        return process.stdout.splitlines()[-1]

    def test_flags(self):
        self.check_flags("gpu_run.sh")
        for flag in ("--results", "--time-limit", "--root", "--commit"):
            self.assertIn(f"{flag} needs a value", self.call(TOOLS / "gpu_run.sh", flag).stdout)
        refused = self.call(TOOLS / "gpu_run.sh", "--time-limit", "soon")
        self.assertEqual(2, refused.returncode)
        self.assertIn("'soon'", refused.stdout)

    def test_programs_pass_fail_skip_and_hang(self):
        process, results = self.run_tests(
            {"tests/gpu_a": PASSES, "tests/gpu_b": FAILS, "tests/gpu_c": SKIPS,
             "tests/gpu_d": HANGS, "tests/other": FAILS}, "--time-limit", "1", "--quick")
        self.assertEqual(1, process.returncode)
        self.assertEqual({"gpu_a": "pass", "gpu_b": "fail", "gpu_c": "skipped", "gpu_d": "fail"},
                         self.statuses(results))
        entries = {entry["name"]: entry for entry in results["programs"]}
        self.assertEqual([0, 3, 77, 124], [entry["exit_code"] for entry in results["programs"]])
        self.assertEqual('no GPU (it "said" so)', entries["gpu_c"]["note"])
        self.assertIn("limit of 1 s", entries["gpu_d"]["note"])
        self.assertGreaterEqual(entries["gpu_d"]["seconds"], 1)
        self.assertEqual(str(self.root / "tests/gpu_a"), entries["gpu_a"]["command"])
        self.assertEqual(("abc", None, None, "fail"),
                         tuple(results[key] for key in ("commit", "device", "driver", "result")))
        self.assertRegex(self.last_line(process), r"^FAIL: gpu_b \(.*\), gpu_d \(.*skipped: gpu_c")
        self.assertEqual("fine\n", (self.results / "gpu_a.log").read_text())
        self.assertEqual(process.stdout, (self.results / "report.txt").read_text())

    def test_sanitizers_and_benchmarks_follow(self):
        self.with_gpu()
        self.script(self.path / "python3", WRITES_JSON)
        process, results = self.run_tests(
            {"tests/gpu_a": PASSES, "tests/gpu_c": SKIPS, "tools/bench": BENCH})
        self.assertEqual(0, process.returncode)
        self.assertEqual({"gpu_a": "pass", "gpu_c": "skipped", "memcheck gpu_a": "pass",
                          "synccheck gpu_a": "pass", "initcheck gpu_a": "pass", "bench": "pass",
                          "bench --precision tf32": "pass", "PyTorch": "pass",
                          "PyTorch --tf32": "pass", "PyTorch kernels": "pass",
                          "PyTorch kernels --tf32": "pass"}, self.statuses(results))
        self.assertRegex((self.results / "PyTorch_--tf32.log").read_text(),
                         r"torch_lm.py --device cuda .*--tf32 --report .*torch-tf32.json")
        self.assertEqual("NVIDIA X, 80GB", results["device"])
        self.assertEqual("580.1", results["driver"])
        self.assertEqual(f"--device cuda --json {self.results}/bench.json\n",
                         (self.results / "bench.log").read_text())
        self.assertRegex(self.last_line(process), "^PASS: 1 .*skipped: gpu_c")
        self.assertEqual(f"--device cuda --precision tf32 --only step --json {self.results}/"
                         "bench-tf32.json\n",
                         (self.results / "bench_--precision_tf32.log").read_text())
        # PyTorch's kernels: their table in the report, their figures in results.json.
        report = (self.results / "report.txt").read_text()
        for flag, suffix in (("", ""), ("--tf32 ", "-tf32")):
            self.assertIn(f"torch_kernels.py --device cuda {flag}--bench {self.results}/"
                          f"bench{suffix}.json --json {self.results}/torch_kernels{suffix}.json\n",
                          report)
        self.assertEqual({"fp32": {"lines": [7]}, "tf32": {"lines": [8]}},
                         results["torch_kernels"])

    def test_kernels_of_pytorch_alone_and_failing(self):
        self.with_gpu()
        # Of a former run, or of one that failed: nothing to compare with.
        self.script(self.results / "bench.json", "")
        self.script(self.path / "python3",
                    f'{WRITES_JSON}; [[ "$*" != *torch_kernels.py*--tf32* ]] || exit 3')
        process, results = self.run_tests(
            {"tests/gpu_a": PASSES, "tools/bench": f"{BENCH}; [[ $1 == --help ]]"})
        self.assertEqual(1, process.returncode)
        statuses = self.statuses(results)
        self.assertEqual("fail", statuses["bench"])
        self.assertEqual("pass", statuses["PyTorch kernels"])
        self.assertEqual("fail", statuses["PyTorch kernels --tf32"])
        self.assertEqual({"fp32": {"lines": [5]}, "tf32": None},
                         results["torch_kernels"])
        self.assertNotIn("--bench", process.stdout)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "no PyTorch")
    def test_kernels_of_pytorch_stand_beside_those_of_bench(self):
        sizes = {"rows": 100, "dim": 4, "active": 10}
        flags = [f"--{name}={value}" for name, value in sizes.items()]
        bench = self.folder / "bench.json"
        bench.write_text(json.dumps({"settings": {**sizes, "precision": "fp32"}, "lines": [
            {"group": "kernels.rows", "name": "gather rows", "median_seconds": 2.0},
            {"group": "step", "name": "dense: speed", "value": 3.0}]}))
        written = self.folder / "kernels.json"

        def kernels(*arguments):
            return self.call(sys.executable, TOOLS / "peers/torch_kernels.py", "--threads=1",
                             "--seconds=0.001", "--bench", bench, *arguments)

        process = kernels(*flags, "--json", written)
        self.assertEqual(0, process.returncode, process.stdout)
        lines = {(line["bench_group"], line["bench_name"]): line
                 for line in json.loads(written.read_text())["lines"]}
        gather = lines["kernels.rows", "gather rows"]
        self.assertEqual((320, 2.0), (gather["bytes"], gather["bench_seconds"]))
        self.assertEqual(gather["median_seconds"] / 2, gather["ratio"])
        self.assertIsNone(lines["step", "dense: lstm"]["ratio"])
        self.assertRegex(process.stdout, r"kernels.rows: gather rows +2000.000 ms +embedding ")
        refused = kernels(flags[0])
        self.assertEqual(2, refused.returncode)
        self.assertRegex(refused.stdout, r"^torch_kernels.py: error: .*--dim 4, not 256\n$")

    @unittest.skipUnless(importlib.util.find_spec("torch"), "no PyTorch")
    def test_language_models_of_pytorch_learn_with_each_softmax(self):
        text = self.folder / "text"
        text.write_text((" ".join(map(str, range(50))) + "\n") * 10)
        written = self.folder / "report.json"

        def train(*arguments):
            return self.call(sys.executable, TOOLS / "peers/torch_lm.py", "--train", text,
                             "--embedding-dim=8", "--hidden=16", "--projection=8", "--layers=1",
                             "--dropout=0", "--bptt=10", "--batch=4", "--learning-rate=0.03",
                             "--report", written, *arguments)

        unused = {"samples": None, "cutoffs": None, "division": None}
        for softmax, flags, settings in (
                ("full", [], unused),
                ("sampled", ["--samples=49"], {**unused, "samples": 49}),
                ("adaptive", ["--cutoffs=5,9,12"], {"samples": None, "cutoffs": [5, 9, 12],
                                                    "division": 4})):
            process = train(f"--softmax={softmax}", *flags, "--steps=150")
            self.assertEqual(0, process.returncode, process.stdout)
            report = json.loads(written.read_text())
            self.assertEqual({**report["settings"], **settings, "softmax": softmax,
                              "sparse_embedding": softmax == "sampled"}, report["settings"])
            self.assertLess(report["last_loss"], 2.5, softmax)  # at first: 3.8
            self.assertGreater(report["cpu_seconds_per_step"], 0)
        for flags, problem in ((["--softmax=sampled"], "--samples must be .*, which is 51"),
                               (["--softmax=adaptive"], "--softmax adaptive needs --cutoffs"),
                               (["--cutoffs=5"], "--cutoffs needs --softmax adaptive")):
            refused = train(*flags)
            self.assertEqual(2, refused.returncode)
            self.assertRegex(refused.stdout, f"^torch_lm.py: error: {problem}\n$")

    def test_a_failure_under_the_sanitizer_fails(self):
        self.with_gpu()
        self.script(self.path / "compute-sanitizer", "exit 99")
        process, results = self.run_tests({"tests/gpu_a": PASSES})
        self.assertEqual(1, process.returncode)
        self.assertEqual({"gpu_a": "pass", "memcheck gpu_a": "fail", "synccheck gpu_a": "fail", "initcheck gpu_a": "fail",
                          "bench": "skipped", "PyTorch": "skipped"}, self.statuses(results))

    def test_benchmarks_without_cuda_are_skipped(self):
        _, results = self.run_tests({"tests/gpu_a": PASSES, "tools/bench": "echo --threads"})
        self.assertEqual("skipped", self.statuses(results)["bench"])

    def test_without_a_gpu_nothing_is_run(self):
        process, results = self.run_tests({"tests/gpu_a": SKIPS, "tests/gpu_b": SKIPS})
        self.assertEqual(0, process.returncode)
        self.assertEqual("skipped", results["result"])
        self.assertRegex(self.last_line(process), "^SKIPPED: nothing was run, as there is no GPU")

    def test_a_gpu_that_no_test_sees_is_a_failure(self):
        self.with_gpu()
        process, results = self.run_tests({"tests/gpu_a": SKIPS})
        self.assertEqual(1, process.returncode)
        self.assertEqual("fail", results["result"])
        self.assertRegex(self.last_line(process), "^FAIL: there is a GPU, but no test")

    def test_a_folder_without_tests_is_a_failure(self):
        self.root.mkdir()
        process, results = self.run_tests({})
        self.assertEqual(1, process.returncode)
        self.assertEqual([], results["programs"])

    def test_a_command_gets_the_packed_libraries(self):
        (self.root / "lib").mkdir(parents=True)
        process = self.call(TOOLS / "gpu_run.sh", "--root", self.root, "--", "bash", "-c",
                            'echo "$1:$LD_LIBRARY_PATH"', "_", "--help")
        self.assertEqual(0, process.returncode)
        self.assertTrue(process.stdout.startswith(f"--help:{self.root}/lib"), process.stdout)


class Bundle(GpuScriptTest):
    def setUp(self):
        super().setUp()
        self.script(self.path / "nvidia-smi", "exit 9")
        self.output = self.folder / "bundle"
        for name in ("tests/gpu_a", "tools/bench", "apps/lm"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(shutil.which("gzip"), self.root / name)

    def bundle(self):
        return self.call(TOOLS / "gpu_bundle.sh", "--build", self.root, "--output", self.output)

    def test_flags(self):
        self.check_flags("gpu_bundle.sh")
        refused = self.call(TOOLS / "gpu_bundle.sh", "--build", self.folder / "none")
        self.assertEqual(2, refused.returncode)

    def test_a_bundle_runs_and_is_made_anew(self):
        self.script(self.root / "tests/gpu_a", SKIPS)
        self.script(self.root / "tests/gpu_old", SKIPS)
        packed = self.bundle()
        self.assertEqual(0, packed.returncode, packed.stdout)
        self.assertRegex(packed.stdout, r"MiB, 4 programs, commit \w+")
        (self.root / "tests/gpu_old").unlink()
        (self.output / "notes").write_text("mine")
        self.assertEqual(0, self.bundle().returncode)
        self.assertEqual({"tests", "tools", "apps", "lib", "golden", "run.sh", "COMMIT", "notes"},
                         set(os.listdir(self.output)))
        self.assertEqual(["gpu_a"], os.listdir(self.output / "tests"))
        self.assertTrue((self.output / "apps/lm").is_file())
        self.assertEqual({"torch_lm.py", "torch_kernels.py", "torch_xc.py"},
                         set(os.listdir(self.output / "tools/peers")))
        self.assertIn("lstm.json", os.listdir(self.output / "golden"))
        ran = self.call(self.output / "run.sh", "--results", self.results)
        self.assertEqual(0, ran.returncode, ran.stdout)
        results = json.loads((self.results / "results.json").read_text())
        self.assertEqual((self.output / "COMMIT").read_text().strip(), results["commit"])

    def test_large_libraries_are_packed_and_unpacked(self):
        (self.output / "lib").mkdir(parents=True)
        library = self.output / "lib/libx.so"
        library.write_bytes(b"library")
        subprocess.run(["gzip", library], check=True)
        shutil.copy(TOOLS / "gpu_run.sh", self.output / "run.sh")
        for _ in range(2):
            self.assertEqual(0, self.call(self.output / "run.sh", "--", "true").returncode)
            self.assertEqual(b"library", library.read_bytes())

    def test_too_much_fails_with_its_size(self):
        with open(self.root / "tests/gpu_a", "wb") as program:
            program.write(os.urandom(61 << 20))  # nothing that gzip makes smaller
        packed = self.bundle()
        self.assertEqual(1, packed.returncode)
        self.assertRegex(packed.stdout, r"has 6\d\.\d MiB, more than 60")

    def test_a_build_without_gpu_tests_is_refused(self):
        (self.root / "tests/gpu_a").unlink()
        packed = self.bundle()
        self.assertEqual(1, packed.returncode)
        self.assertIn("without CUDA", packed.stdout)

    def test_folders_of_others_are_left_alone(self):
        self.output.mkdir()
        (self.output / "tests").write_text("mine")
        packed = self.bundle()
        self.assertEqual(1, packed.returncode)
        self.assertEqual("mine", (self.output / "tests").read_text())


class Check(GpuScriptTest):
    def test_flags(self):
        self.check_flags("gpu_check.sh")
        refused = self.call(TOOLS / "gpu_check.sh", "--time-limit", "0")
        self.assertEqual(2, refused.returncode)


if __name__ == "__main__":
    unittest.main()
