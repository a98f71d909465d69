#!/usr/bin/env python3
"""PyTorch's own LSTM language model: the peer for speed and memory.

    python3 tools/peers/torch_lm.py --train train.txt --report report.json
    python3 tools/peers/torch_lm.py --device cuda --report report.json
    python3 tools/peers/torch_lm.py --vocabulary 266088 --softmax sampled

nn.Embedding -> dropout -> nn.LSTM -> dropout -> nn.Linear -> cross_entropy,
weights not tied, trained with Adam over truncated BPTT: the state is carried
from one chunk to the next and detached.  Everything that is not an option is
PyTorch's default, its handling of denormal numbers included.

--softmax sampled and adaptive train what `lm train` does with the same flags.
Of a sampled softmax both tables have sparse gradients and SparseAdam, and the
loss is that of telling the target from the sample.  The adaptive one is
nn.AdaptiveLogSoftmaxWithLoss.

Without a text, words are drawn with a probability proportional to 1 / (1 + id),
as tools/bench draws them: speed depends on which rows of the tables are used.

Figures of resident memory come from /proc/self/status, so this runs on Linux
only; on a GPU the peak of PyTorch's own allocator comes beside them, and the
loss is only read after the last step, since reading waits for the GPU (as a
sampled or adaptive softmax does in every step, for sizes that it has to know).
"""

import argparse
import json
import lzma
import math
import resource
import statistics
import time
import warnings
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


def by_frequency(ids, vocabulary):
    """The ids, numbered anew: the most frequent word is 0."""
    order = ids.bincount(minlength=vocabulary).argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(vocabulary)
    return rank[ids]


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


# Output layers, called as nn.AdaptiveLogSoftmaxWithLoss is: (output, loss).

class FullSoftmax(nn.Linear):
    def forward(self, x, targets):
        logits = super().forward(x)
        return logits, F.cross_entropy(logits, targets)


class SampledSoftmax(nn.Module):
    """Classes drawn log-uniformly, one set of different ones for all tokens.

    Of a fixed number of tries, so that a class is drawn with a probability that
    is known: 1 - (1 - q)^tries.  `samples` different ones are expected.
    """

    def __init__(self, features, classes, samples):
        super().__init__()
        self.weight = nn.Embedding(classes, features, sparse=True)
        self.bias = nn.Embedding(classes, 1, sparse=True)
        for table in (self.weight, self.bias):  # as nn.Linear
            nn.init.uniform_(table.weight, -features ** -0.5, features ** -0.5)
        self.log_range = math.log(classes + 1)
        rank = torch.arange(1, classes + 1, dtype=torch.float64)
        log_miss = torch.log1p(-torch.log1p(1 / rank) / self.log_range)
        self.tries = self.tries_for(samples, log_miss)
        self.register_buffer(
            "log_drawn", torch.log(-torch.expm1(self.tries * log_miss)).float())

    @staticmethod
    def tries_for(samples, log_miss):
        """Newton's steps: what is expected is concave in the tries."""
        tries, step = float(samples), 1.0
        while step >= 0.5:
            miss = torch.exp(tries * log_miss)
            expected, slope = (1 - miss).sum(), -(miss * log_miss).sum()
            step = ((samples - expected) / slope).item()
            tries += max(step, 0.0)
        return math.ceil(tries)

    def draw(self):
        u = torch.rand(self.tries, dtype=torch.float64,
                       device=self.log_drawn.device)
        drawn = (torch.exp(u * self.log_range) - 1).long()
        return drawn.clamp_(max=len(self.log_drawn) - 1).unique()

    def offset(self, ids):
        return self.bias(ids).squeeze(1) - self.log_drawn[ids]

    def forward(self, x, targets):
        sample = self.draw()
        true = (x * self.weight(targets)).sum(-1) + self.offset(targets)
        logits = torch.addmm(self.offset(sample), x, self.weight(sample).t())
        # A target that is drawn counts once.
        logits.masked_fill_(sample == targets.unsqueeze(1), -math.inf)
        logits = torch.cat([true.unsqueeze(1), logits], dim=1)
        return logits, F.cross_entropy(logits, torch.zeros_like(targets))


def adaptive_softmax(features, classes, args):
    # One column at least, as in lm: PyTorch would leave a cluster none, and
    # only warn.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.AdaptiveLogSoftmaxWithLoss(features, classes, args.cutoffs,
                                              div_value=args.division)
    for tail in layer.tail:
        if tail[0].out_features == 0:
            tail[0] = nn.Linear(features, 1, bias=False)
            tail[1] = nn.Linear(1, tail[1].out_features, bias=False)
    return layer


class Model(nn.Module):
    def __init__(self, vocabulary, args):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, args.embedding_dim,
                                      sparse=args.sparse_embedding)
        self.dropout = nn.Dropout(args.dropout)
        # PyTorch puts dropout between layers only, and warns if there is none.
        between = args.dropout if args.layers > 1 else 0.0
        self.lstm = nn.LSTM(args.embedding_dim, args.hidden, args.layers,
                            dropout=between, proj_size=args.projection)
        features = args.projection or args.hidden
        if args.softmax == "sampled":
            self.output = SampledSoftmax(features, vocabulary, args.samples)
        elif args.softmax == "adaptive":
            self.output = adaptive_softmax(features, vocabulary, args)
        else:
            self.output = FullSoftmax(features, vocabulary)

    def forward(self, ids, targets, state):
        x = self.dropout(self.embedding(ids))
        x, state = self.lstm(x, state)
        x = self.dropout(x).flatten(0, 1)
        return *self.output(x, targets.flatten()), state


def make_optimizers(model, args):
    how = {"default": {}, "foreach": {"foreach": True},
           "fused": {"fused": True}}[args.adam]
    rate = args.learning_rate
    tables = [module.weight for module in model.modules()
              if isinstance(module, nn.Embedding) and module.sparse]
    dense = [p for p in model.parameters()
             if all(p is not table for table in tables)]
    optimizers = [torch.optim.Adam(dense, lr=rate, **how)]
    if tables:
        optimizers.append(torch.optim.SparseAdam(tables, lr=rate))
    return optimizers


def clip_gradients(model, max_norm, sparse):
    if not sparse:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return
    # clip_grad_norm_ takes no sparse gradients; once the repeated rows are
    # added up, the norm of one is the norm of its values.
    grads = []
    for p in model.parameters():
        if p.grad is None:  # of a cluster that holds no target
            continue
        if p.grad.is_sparse:
            p.grad = p.grad.coalesce()
        grads.append(p.grad.values() if p.grad.is_sparse else p.grad)
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale)


def train(model, optimizers, stream, args):
    """Runs the steps; returns the timed ones' seconds, their seconds of CPU
    time in all, and the last loss."""
    seconds = []
    state = None
    on_gpu = args.device == "cuda"
    for step in range(args.warmup_steps + args.steps):
        if step == args.warmup_steps:
            if on_gpu:
                torch.cuda.synchronize()
            begin, cpu_begin = time.perf_counter(), time.process_time()
        start = time.perf_counter()
        ids, targets, first = next(stream)
        # nn.LSTM starts from zeros when it is given no state.
        state = None if first else tuple(s.detach() for s in state)
        for optimizer in optimizers:
            optimizer.zero_grad()
        output, loss, state = model(ids, targets, state)
        loss.backward()
        if args.clip > 0:
            clip_gradients(model, args.clip, args.sparse_embedding)
        for optimizer in optimizers:
            optimizer.step()
        last = loss.detach() if on_gpu else loss.item()
        # Else the logits and their gradient live on into the next step.
        del output, loss
        if step >= args.warmup_steps:
            seconds.append(time.perf_counter() - start)
    if on_gpu:
        # Steps overlap on the way to the GPU: only their sum means something.
        torch.cuda.synchronize()
        seconds = [(time.perf_counter() - begin) / args.steps] * args.steps
        last = last.item()
    return seconds, time.process_time() - cpu_begin, last


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def id_list(text):
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of ids")


def parse_arguments():
    """The parser, whose error() goes on to check, and the arguments."""
    parser = Parser(
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
    add("--projection", type=int, default=0,
        help="columns of the LSTM's projection, fewer than --hidden; 0: none")
    add("--softmax", choices=["full", "sampled", "adaptive"], default="full",
        help="full; sampled: over a sample of the words, one a step, and the "
             "targets; or adaptive: rare words in clusters with fewer columns; "
             "for the last two a text's words are numbered by frequency")
    add("--samples", type=int, default=8192,
        help="different words of a sample, on average")
    add("--cutoffs", type=id_list, default=None, metavar="A,B,...",
        help="of the adaptive softmax: the ids at which its clusters begin")
    add("--division", type=float, default=4.0,
        help="of the adaptive softmax: each cluster has so many times fewer "
             "columns than the one before, but at least one")
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
        help="sparse gradients and SparseAdam for the embedding; always so "
             "with --softmax sampled")
    add("--report", type=Path, help="JSON file to write", default=None)
    args = parser.parse_args()
    if min(args.steps, args.batch, args.bptt, args.threads) < 1:
        parser.error("--steps, --batch, --bptt and --threads must be positive")
    if not 0 <= args.projection < args.hidden:
        parser.error("--projection must be 0 or more, and less than --hidden")
    for name, softmax in (("samples", "sampled"), ("cutoffs", "adaptive"),
                          ("division", "adaptive")):
        if args.softmax == softmax:
            continue
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} needs --softmax {softmax}")
        setattr(args, name, None)  # not reported
    args.sparse_embedding |= args.softmax == "sampled"
    if args.softmax == "adaptive" and not args.cutoffs:
        parser.error("--softmax adaptive needs --cutoffs")
    if args.softmax == "adaptive" and not args.division >= 1:
        parser.error("--division must be at least 1")
    return parser, args


def check_sizes(parser, args, vocabulary):
    if args.softmax == "sampled" and not 1 <= args.samples < vocabulary:
        parser.error("--samples must be at least 1, and less than the "
                     f"vocabulary, which is {vocabulary}")
    if args.softmax == "adaptive":
        bounds = [0, *args.cutoffs, vocabulary]
        if any(low >= high for low, high in zip(bounds, bounds[1:])):
            parser.error("--cutoffs must increase, above 0 and below the "
                         f"vocabulary, which is {vocabulary}")


def main():
    parser, args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    if args.train:
        ids, vocabulary = read_ids(args.train)
        if args.softmax != "full":
            ids = by_frequency(ids, vocabulary)
    else:
        vocabulary = args.vocabulary
        ids = drawn_ids(vocabulary, args.batch * (100 * args.bptt + 1))
    check_sizes(parser, args, vocabulary)
    rss_after_data = resident("VmRSS")
    model = Model(vocabulary, args).to(args.device)
    rss_after_model = resident("VmRSS")
    optimizers = make_optimizers(model, args)
    # Building an optimizer loads more of PyTorch, which is not the model's.
    rss_after_optimizer = resident("VmRSS")

    stream = chunks(ids, args.batch, args.bptt, args.device)
    seconds, cpu_seconds, loss = train(model, optimizers, stream, args)
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
        "seconds_per_step": sum(seconds) / len(seconds),
        "cpu_seconds_per_step": cpu_seconds / len(seconds),
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
