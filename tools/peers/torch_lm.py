#!/usr/bin/env python3
"""PyTorch's own LSTM language model: the peer for speed and memory.

    python3 tools/peers/torch_lm.py --train train.txt --report report.json
    python3 tools/peers/torch_lm.py --device cuda --report report.json

nn.Embedding -> dropout -> nn.LSTM -> dropout -> nn.Linear -> cross_entropy,
weights not tied, trained with Adam over truncated BPTT: the state is carried
from one chunk to the next and detached.  Everything that is not an option is
PyTorch's default, its handling of denormal numbers included.

Without a text, words are drawn with a probability proportional to 1 / (1 + id),
as tools/bench draws them: speed depends on which rows of the tables are used.

Figures of resident memory come from /proc/self/status, so this runs on Linux
only; on a GPU the peak of PyTorch's own allocator comes beside them, and the
loss is only read after the last step, since reading waits for the GPU.
"""

import argparse
import json
import lzma
import resource
import statistics
import time
from array import array
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


def read_ids(path):
    """Token ids, numbered in order of first sight, and how many differ."""
    opener = lzma.open if path.suffix == ".xz" else open
    vocabulary = {}
    # A list of Python strings would set the peak that is to be measured.
    ids = array("q")
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            for token in [*line.split(), "<eos>"]:
                ids.append(vocabulary.setdefault(token, len(vocabulary)))
    return torch.frombuffer(ids, dtype=torch.int64), len(vocabulary)


def drawn_ids(vocabulary, count):
    weights = 1.0 / torch.arange(1, vocabulary + 1, dtype=torch.float64)
    return torch.multinomial(weights, count, replacement=True)


def chunks(ids, batch, bptt, device):
    """Endless (input, target, first) of [bptt, batch]; first: a new pass."""
    rows = len(ids) // batch
    data = ids[:rows * batch].view(batch, rows).t().contiguous().to(device)
    if rows <= bptt:
        raise SystemExit("the text is too short for one chunk")
    while True:
        for at in range(0, rows - bptt, bptt):
            yield data[at:at + bptt], data[at + 1:at + 1 + bptt], at == 0


class Model(nn.Module):
    def __init__(self, vocabulary, args):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, args.embedding_dim,
                                      sparse=args.sparse_embedding)
        self.dropout = nn.Dropout(args.dropout)
        # PyTorch puts dropout between layers only, and warns if there is none.
        between = args.dropout if args.layers > 1 else 0.0
        self.lstm = nn.LSTM(args.embedding_dim, args.hidden, args.layers,
                            dropout=between)
        self.output = nn.Linear(args.hidden, vocabulary)

    def forward(self, ids, state):
        x = self.dropout(self.embedding(ids))
        x, state = self.lstm(x, state)
        return self.output(self.dropout(x)), state


def make_optimizers(model, args):
    how = {"default": {}, "foreach": {"foreach": True},
           "fused": {"fused": True}}[args.adam]
    rate = args.learning_rate
    if not args.sparse_embedding:
        return [torch.optim.Adam(model.parameters(), lr=rate, **how)]
    dense = [p for name, p in model.named_parameters()
             if name != "embedding.weight"]
    return [torch.optim.Adam(dense, lr=rate, **how),
            torch.optim.SparseAdam([model.embedding.weight], lr=rate)]


def clip_gradients(model, max_norm, sparse):
    if not sparse:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return
    # clip_grad_norm_ takes no sparse gradients; once the repeated rows are
    # added up, the norm of one is the norm of its values.
    table = model.embedding.weight
    table.grad = table.grad.coalesce()
    grads = [p.grad.values() if p is table else p.grad
             for p in model.parameters()]
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale)


def train(model, optimizers, stream, args):
    """Runs the steps; returns the timed ones' seconds and the last loss."""
    seconds = []
    state = None
    on_gpu = args.device == "cuda"
    for step in range(args.warmup_steps + args.steps):
        if on_gpu and step == args.warmup_steps:
            torch.cuda.synchronize()
            begin = time.perf_counter()
        start = time.perf_counter()
        ids, targets, first = next(stream)
        # nn.LSTM starts from zeros when it is given no state.
        state = None if first else tuple(s.detach() for s in state)
        for optimizer in optimizers:
            optimizer.zero_grad()
        logits, state = model(ids, state)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        if args.clip > 0:
            clip_gradients(model, args.clip, args.sparse_embedding)
        for optimizer in optimizers:
            optimizer.step()
        last = loss.detach() if on_gpu else loss.item()
        # Else the logits and their gradient live on into the next step.
        del logits, loss
        if step >= args.warmup_steps:
            seconds.append(time.perf_counter() - start)
    if on_gpu:
        # Steps overlap on the way to the GPU: only their sum means something.
        torch.cuda.synchronize()
        seconds = [(time.perf_counter() - begin) / args.steps] * args.steps
        last = last.item()
    return seconds, last


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Train PyTorch's LSTM language model and report its "
                    "speed and memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--train", type=Path, default=None,
        help="text, one line to a line, split on spaces; .xz is unpacked")
    add("--vocabulary", type=int, default=33278,
        help="words to draw from where there is no text")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="device")
    add("--tf32", action="store_true", help="TF32 products on the GPU")
    add("--embedding-dim", type=int, default=200, help="embedding width")
    add("--hidden", type=int, default=200, help="LSTM width")
    add("--layers", type=int, default=2, help="LSTM layers")
    add("--dropout", type=float, default=0.2, help="dropout probability")
    add("--batch", type=int, default=20, help="sequences side by side")
    add("--bptt", type=int, default=35, help="time steps to a chunk")
    add("--steps", type=int, default=40, help="timed steps")
    add("--warmup-steps", type=int, default=5, help="steps before the timed")
    add("--threads", type=int, default=1, help="threads within an operation")
    add("--seed", type=int, default=1, help="random seed")
    add("--learning-rate", type=float, default=1e-3, help="Adam's step size")
    add("--clip", type=float, default=0.25,
        help="largest global gradient norm; 0 for no clipping")
    add("--adam", choices=["foreach", "fused", "default"], default="fused",
        help="which of PyTorch's Adam implementations")
    add("--sparse-embedding", action="store_true",
        help="sparse gradients and SparseAdam for the embedding")
    add("--report", type=Path, help="JSON file to write", default=None)
    args = parser.parse_args()
    if min(args.steps, args.batch, args.bptt, args.threads) < 1:
        parser.error("--steps, --batch, --bptt and --threads must be positive")
    return args


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    if args.train:
        ids, vocabulary = read_ids(args.train)
    else:
        vocabulary = args.vocabulary
        ids = drawn_ids(vocabulary, args.batch * (100 * args.bptt + 1))
    rss_after_data = resident("VmRSS")
    model = Model(vocabulary, args).to(args.device)
    rss_after_model = resident("VmRSS")
    optimizers = make_optimizers(model, args)
    # Building an optimizer loads more of PyTorch, which is not the model's.
    rss_after_optimizer = resident("VmRSS")

    stream = chunks(ids, args.batch, args.bptt, args.device)
    seconds, loss = train(model, optimizers, stream, args)
    per_step = args.batch * args.bptt
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "torch": torch.__version__,
        "settings": {key: str(value) if isinstance(value, Path) else value
                     for key, value in vars(args).items()},
        "vocabulary": vocabulary,
        "text_tokens": len(ids),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_second": per_step * len(seconds) / sum(seconds),
        # The median stands when something else took the processor for a while.
        "tokens_per_second_median": per_step / statistics.median(seconds),
        "last_loss": loss,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "rss_after_import_bytes": RSS_AFTER_IMPORT,
        "rss_after_data_bytes": rss_after_data,
        "rss_after_model_bytes": rss_after_model,
        "rss_after_optimizer_bytes": rss_after_optimizer,
        "peak_rss_bytes": resident("VmHWM"),
    }
    if args.device == "cuda":
        report["device_name"] = torch.cuda.get_device_name()
        report["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
        report["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
    text = json.dumps(report, indent=2)
    print(text)
    if args.report:
        args.report.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
