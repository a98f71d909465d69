#!/usr/bin/env python3
"""A meta-classifier in PyTorch: the peer of `xc train --model mach` for speed and memory.

    python3 tools/peers/torch_xc.py --data train.bin --hidden 256 --buckets 4000 --batch 512
    python3 tools/peers/torch_xc.py --data train.bin --optimizer adam --report report.json

nn.EmbeddingBag (sums, weights) -> bias -> relu -> nn.Linear -> cross_entropy over
buckets, one repetition. The features of the rows are those of a file that
`xc prepare` made; which bucket a class is in is drawn anew here, since speed does
not depend on it.

--optimizer sparse_adam gives the bag a sparse gradient and SparseAdam, and Adam to
the rest; adam is torch.optim.Adam for everything, with dense gradients.

Figures of resident memory come from /proc/self/status, so this runs on Linux only.
Batches are made before the clock starts.
"""

import argparse
import json
import mmap
import resource
import statistics
import struct
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


def resident(key):
    """VmRSS (now) or VmHWM (the highest so far), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


# Taken here: PyTorch's own libraries are loaded and nothing else has run yet.
RSS_AFTER_IMPORT = resident("VmRSS")


class Examples:
    """Rows of a prepared file of text: records of labels and features."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack("<Q", self.map[:8])
        header = json.loads(self.map[8:8 + length])
        self.metadata = header["__metadata__"]
        self.start = 8 + length
        self.begin = self.offsets(header, "begin")
        self.records = self.offsets(header, "rows")
        self.rows = int(self.metadata["examples.rows"])
        self.classes = int(self.metadata["examples.classes"])
        self.features = int(self.metadata["input.feature_dim"])
        if self.metadata["input.format"] != "tsv":
            raise SystemExit(f"{path}: not prepared from text")

    def offsets(self, header, name):
        return self.start + header[name]["data_offsets"][0]

    def row(self, i):
        """(labels, features), each feature as often as it stands."""
        first, last = struct.unpack_from("<2q", self.map, self.begin + 8 * i)
        values = struct.unpack_from(f"<{last - first}i", self.map, self.records + 4 * first)
        labels, features = values[0], values[1]
        return values[2:2 + labels], values[2 + labels:2 + labels + features]


class MetaClassifier(nn.Module):
    def __init__(self, features, hidden, buckets, sparse):
        super().__init__()
        self.bag = nn.EmbeddingBag(features, hidden, mode="sum", sparse=sparse)
        nn.init.uniform_(self.bag.weight, -0.1, 0.1)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.output = nn.Linear(hidden, buckets)

    def forward(self, features, begin, weights):
        hidden = self.bag(features, begin, per_sample_weights=weights) + self.bias
        return self.output(torch.relu(hidden))


def make_batch(examples, rows, buckets):
    features, begin, weights, targets = [], [], [], []
    for i in rows:
        labels, ids = examples.row(i)
        if not labels:
            continue  # nothing to learn
        counts = {}
        for feature in ids:
            counts[feature] = counts.get(feature, 0) + 1
        norm = sum(count * count for count in counts.values()) ** 0.5
        begin.append(len(features))
        features.extend(counts)
        weights.extend(count / norm for count in counts.values())
        targets.append(buckets[labels[0]])
    return (torch.tensor(features), torch.tensor(begin), torch.tensor(weights),
            torch.tensor(targets))


def make_optimizers(model, args):
    if args.optimizer == "adam":
        return [torch.optim.Adam(model.parameters(), lr=args.learning_rate)]
    rest = [parameter for name, parameter in model.named_parameters() if name != "bag.weight"]
    return [torch.optim.SparseAdam([model.bag.weight], lr=args.learning_rate),
            torch.optim.Adam(rest, lr=args.learning_rate)]


def train(model, optimizers, batches, warmup):
    seconds, loss = [], None
    cpu_begin = 0.0
    for step, (features, begin, weights, targets) in enumerate(batches):
        if step == warmup:
            cpu_begin = time.process_time()
        start = time.perf_counter()
        loss = F.cross_entropy(model(features, begin, weights), targets)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if step >= warmup:
            seconds.append(time.perf_counter() - start)
    return seconds, time.process_time() - cpu_begin, loss.item()


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="file that `xc prepare` made")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--buckets", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50, help="after those of warming up")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--optimizer", choices=["sparse_adam", "adam"], default="sparse_adam")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="JSON file [standard output]")
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    examples = Examples(args.data)
    buckets = torch.randint(args.buckets, (examples.classes,)).tolist()
    count = args.warmup + args.steps
    rows = torch.randint(examples.rows, (count, args.batch)).tolist()
    batches = [make_batch(examples, one, buckets) for one in rows]
    del buckets
    model = MetaClassifier(examples.features, args.hidden, args.buckets,
                           args.optimizer == "sparse_adam")
    optimizers = make_optimizers(model, args)
    seconds, cpu_seconds, loss = train(model, optimizers, batches, args.warmup)
    state = sum(value.numel() * value.element_size()
                for optimizer in optimizers for entry in optimizer.state.values()
                for value in entry.values() if torch.is_tensor(value) and value.numel() > 1)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "torch": torch.__version__,
        "optimizer": args.optimizer,
        "features": examples.features,
        "hidden": args.hidden,
        "buckets": args.buckets,
        "batch": args.batch,
        "threads": args.threads,
        "steps": args.steps,
        "loss": loss,
        "median_seconds_per_step": statistics.median(seconds),
        "cpu_seconds_per_step": cpu_seconds / len(seconds),
        "rows_per_second": args.batch / statistics.median(seconds),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "optimizer_state_bytes": state,
        "rss_after_import": RSS_AFTER_IMPORT,
        "peak_rss": resident("VmHWM"),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    text = json.dumps(report, indent=2)
    if args.report:
        args.report.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
