#!/usr/bin/env python3
"""PyTorch's counterparts of single lines of tools/bench: the peer for kernels.

    python3 tools/peers/torch_kernels.py --threads 1 --json kernels.json
    build/release/tools/bench --device cuda --json bench.json
    python3 tools/peers/torch_kernels.py --device cuda --bench bench.json

Optimizer steps, rows of a table, and the two large layers of the language
model, each of the sizes and measured in the way of the line of tools/bench that
it answers to: after a warm-up, the median of samples of one call, or of several
where bench also repeats a short one.  Everything that is not an option is
PyTorch's default, its handling of denormal numbers included.
"""

import argparse
import json
import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
import torch.nn.functional as F
from torch import nn

# The language model of tools/bench.
STEPS, BATCH, WIDTH, LAYERS, VOCABULARY = 35, 20, 200, 2, 33278
TOKENS = STEPS * BATCH
LEARNING_RATE = 1e-6

# As in tools/bench/measure.cpp.
MIN_ROUNDS, MAX_ROUNDS, MIN_SAMPLE_SECONDS = 7, 300, 3e-4

JSON_HELP = """\
--json writes {"settings": {...}, "lines": [...]}. A line has, with bench's names:
name, median_seconds, best_seconds, samples, bytes, flops and formula (what bench
states of the line; 0 where it states none), rate_per_second; and bench_group and
bench_name, the line of bench that it answers to. On a GPU peak_allocated_bytes is
the most that PyTorch's allocator gave out, inputs included. With --bench,
bench_seconds is the median there and ratio is median_seconds / bench_seconds, so
that bench is faster above 1; both are null where bench did not run that line.
"""


@dataclass
class Case:
    name: str
    bench_group: str
    bench_name: str
    run: Callable
    formula: str
    bytes: float = 0
    flops: float = 0
    repeats: bool = False  # a sample of bench holds several calls if they are short


def uniform(shape, limit, device):
    return torch.empty(shape, device=device).uniform_(-limit, limit)


def active_rows(args):
    """Different rows, sorted."""
    return torch.randperm(args.rows)[:args.active].sort().values.to(args.device)


def sparse_adam(args):
    shape = (args.rows, args.dim)
    table = nn.Parameter(uniform(shape, 1.0, args.device))
    ids = active_rows(args)
    values = uniform((len(ids), args.dim), 0.01, args.device)
    table.grad = torch.sparse_coo_tensor(ids[None], values, shape,
                                         check_invariants=False).coalesce()
    optimizer = torch.optim.SparseAdam([table], lr=LEARNING_RATE)
    return Case("SparseAdam", "optimizer.sparse.uniform", "dense state",
                optimizer.step, "28 B an active element", 28 * values.numel())


def fused_adam(parameter):
    """Adam and the name of its implementation."""
    try:
        return torch.optim.Adam([parameter], lr=LEARNING_RATE, fused=True), "fused"
    except (RuntimeError, TypeError):  # not for this device, not in this version
        return torch.optim.Adam([parameter], lr=LEARNING_RATE, foreach=True), "foreach"


def adam(args, shape, size, group, name, repeats):
    parameter = nn.Parameter(uniform(shape, 1.0, args.device))
    parameter.grad = uniform(shape, 0.01, args.device)
    optimizer, how = fused_adam(parameter)
    return Case(f"Adam ({how}), {size}", group, name, optimizer.step,
                "28 B an element", 28 * parameter.numel(), repeats=repeats)


def adam_of_output_table(args):
    return adam(args, (VOCABULARY, WIDTH), f"{VOCABULARY} x {WIDTH}",
                "optimizer.dense", "dense state", repeats=False)


def adam_of_large_array(args):
    return adam(args, (1, 1 << 25), "33.6M elements",
                "kernels.update", "update_rows, 33.6M elements", repeats=True)


def gather(args):
    table = uniform((args.rows, args.dim), 1.0, args.device)
    ids = active_rows(args)
    return Case("embedding", "kernels.rows", "gather rows",
                lambda: F.embedding(ids, table), "8 B an element",
                8 * len(ids) * args.dim, repeats=True)


def scatter_add(args):
    table = uniform((args.rows, args.dim), 1.0, args.device)
    ids = active_rows(args)
    values = uniform((len(ids), args.dim), 0.01, args.device)
    return Case("index_add_", "kernels.rows", "scatter add rows",
                lambda: table.index_add_(0, ids, values), "12 B an element",
                12 * values.numel(), repeats=True)


def lstm(args):
    model = nn.LSTM(WIDTH, WIDTH, LAYERS).to(args.device)
    x = uniform((STEPS, BATCH, WIDTH), 0.1, args.device).requires_grad_()
    state = (torch.zeros(LAYERS, BATCH, WIDTH, device=args.device),) * 2
    gradient = uniform((STEPS, BATCH, WIDTH), 0.01, args.device)
    inputs = [x, *model.parameters()]

    def run():
        torch.autograd.grad(model(x, state)[0], inputs, gradient)

    products = 2 * 6 * LAYERS * TOKENS * 4 * WIDTH * WIDTH
    cells = 235 * LAYERS * TOKENS * WIDTH
    return Case("LSTM, forward and backward", "step", "dense: lstm", run,
                "FLOP of products and cells", flops=products + cells)


def softmax(args):
    inputs = [uniform(shape, 0.1, args.device).requires_grad_() for shape in
              [(TOKENS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,)]]
    targets = torch.randint(VOCABULARY, (TOKENS,), device=args.device)

    def run():
        loss = F.cross_entropy(F.linear(*inputs), targets)
        torch.autograd.grad(loss, inputs)

    flops = (6 * WIDTH + 51) * TOKENS * VOCABULARY
    return Case("linear and cross_entropy", "step", "dense: softmax", run,
                "FLOP of products and the rest", flops=flops)


CASES = [sparse_adam, adam_of_output_table, adam_of_large_array, gather,
         scatter_add, lstm, softmax]


def measure(case, args):
    """Seconds a call, one figure a sample."""
    def sample(repeats):
        if args.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            case.run()
        if args.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    sample(1)  # touches memory, makes the optimizer's state, starts threads
    estimate = sample(1)
    repeats = math.ceil(MIN_SAMPLE_SECONDS / estimate) if case.repeats else 1
    samples = []
    end = time.perf_counter() + args.seconds
    while len(samples) < MIN_ROUNDS or (len(samples) < MAX_ROUNDS
                                        and time.perf_counter() < end):
        samples.append(sample(repeats))
    return samples


def line_of(build, args, bench):
    on_gpu = args.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    case = build(args)
    samples = measure(case, args)
    median = statistics.median(samples)
    line = {
        "name": case.name,
        "bench_group": case.bench_group,
        "bench_name": case.bench_name,
        "median_seconds": median,
        "best_seconds": min(samples),
        "samples": len(samples),
        "bytes": case.bytes,
        "flops": case.flops,
        "formula": case.formula,
        "rate_per_second": (case.flops or case.bytes) / median,
    }
    if on_gpu:
        line["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
    if bench is not None:
        seconds = bench.get((case.bench_group, case.bench_name))
        line["bench_seconds"] = seconds
        line["ratio"] = median / seconds if seconds else None
    return line


def milliseconds(seconds):
    return "-" if seconds is None else f"{seconds * 1e3:.3f} ms"


def print_row(bench_line, bench, name, seconds, ratio, rate, peak):
    print(f"  {bench_line:<43} {bench:>11}  {name:<27} {seconds:>11} {ratio:>6} "
          f"{rate:>13} {peak:>10}", flush=True)


def print_line(line):
    ratio = line.get("ratio")
    peak = line.get("peak_allocated_bytes")
    print_row(f"{line['bench_group']}: {line['bench_name']}",
              milliseconds(line.get("bench_seconds")), line["name"],
              milliseconds(line["median_seconds"]),
              "-" if ratio is None else f"{ratio:.2f}",
              f"{line['rate_per_second'] * 1e-9:.1f} "
              + ("GFLOP/s" if line["flops"] else "GB/s"),
              "-" if peak is None else f"{peak / 2**20:.0f} MiB")


def read_bench(args):
    """The medians of a report of bench, by group and name."""
    report = json.loads(args.bench.read_text(encoding="utf-8"))
    ours = {"rows": args.rows, "dim": args.dim, "active": args.active,
            "precision": "tf32" if args.tf32 else "fp32"}
    for key, value in ours.items():
        theirs = report["settings"][key]
        if theirs != value:
            raise ValueError(f"it has --{key} {theirs}, not {value}")
    return {(line["group"], line["name"]): line["median_seconds"]
            for line in report["lines"] if "median_seconds" in line}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def number(kind, least, most):
    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"'{text}' is no number from {least:g} to {most:g}")
        return value
    return read


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter,
                    argparse.RawDescriptionHelpFormatter):
    pass


def parse_arguments():
    """The arguments, bench's medians (None without --bench), the JSON file."""
    parser = Parser(description="Time PyTorch's counterparts of single lines of "
                                "tools/bench.",
                    epilog=JSON_HELP, formatter_class=HelpFormatter)
    add = parser.add_argument
    size = number(int, 1, 2**31 - 1)
    add("--device", choices=["cpu", "cuda"], default="cpu", help="device")
    add("--tf32", action="store_true", help="TF32 products, on a GPU only")
    add("--rows", type=size, default=1_000_000,
        help="rows of the tables with row-sparse gradients")
    add("--dim", type=number(int, 1, 2**20), default=256,
        help="columns of these tables")
    add("--active", type=size, default=16_384,
        help="rows with a gradient in a step")
    add("--seconds", type=number(float, 1e-3, 1e4), default=1.0,
        help="about so long a measurement")
    add("--threads", type=number(int, 0, 1024), default=0,
        help="threads within an operation; 0: one a processor")
    add("--bench", type=Path, default=None,
        help="JSON file of tools/bench at the same sizes and precision, to set "
             "its figures beside these")
    add("--json", type=Path, default=None, help="file for all figures")
    args = parser.parse_args()
    args.active = min(args.active, args.rows)
    args.threads = args.threads or len(os.sched_getaffinity(0))
    if args.tf32 and args.device != "cuda":
        parser.error("--tf32 needs --device cuda")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, f"{parser.prog}: error: PyTorch {torch.__version__} sees "
                       "no GPU that it can use\n")
    bench = json_file = None
    try:
        bench = read_bench(args) if args.bench else None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        parser.error(f"--bench: {args.bench} is no report to compare with: {problem}")
    try:
        # Now, so that a wrong name is told before anything is measured.
        json_file = args.json.open("w", encoding="utf-8") if args.json else None
    except OSError as problem:
        parser.error(f"--json: {problem}")
    return args, bench, json_file


def main():
    args, bench, json_file = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    device_name = "cpu"
    if args.device == "cuda":
        device_name = torch.cuda.get_device_name()
    print(f"PyTorch {torch.__version__}, {device_name}, threads {args.threads}, "
          f"TF32 {'on' if args.tf32 else 'off'}; "
          "ratio: PyTorch's seconds to those of bench")
    print_row("line of bench", "bench", "", "PyTorch", "ratio", "rate", "peak")
    lines = []
    for build in CASES:
        lines.append(line_of(build, args, bench))
        print_line(lines[-1])
    if json_file:
        settings = {key: str(value) if isinstance(value, Path) else value
                    for key, value in vars(args).items()}
        settings.update(device=device_name, torch=torch.__version__)
        with json_file:
            json.dump({"settings": settings, "lines": lines}, json_file, indent=2)
            json_file.write("\n")


if __name__ == "__main__":
    main()
