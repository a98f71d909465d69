#!/usr/bin/env python3
"""Writes the golden values that the tests compare against, taken from PyTorch.

    python3 tests/golden/make_golden.py [--out DIR] [--seed N]

needs PyTorch (a CPU build will do); the tests only read the JSON files, so
PyTorch is needed to remake them and for nothing else.  The committed files
were made by PyTorch 2.15.0 with the default seed, and every file names the
version and the seed that made it.

Every random input is rounded to float32 and everything after that is computed
in float64: a reader that parses the inputs into floats has the very same
inputs, and the expected values carry no float32 rounding of PyTorch's own.
Numbers are written with nine significant digits, enough to give back any
float32 exactly.

Every array is {"shape": [...], "data": [flat, row-major]}; a scalar is a plain
number.  A file is {"about", "torch", "seed", "cases": [...]}, where "about"
says what its cases hold.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

SMALLEST_FLOAT = torch.finfo(torch.float32).tiny  # that is not denormal


class Draw:
    """Random float64 tensors that hold float32 values."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, scale=1.0):
        values = torch.randn(*shape, generator=self.generator)
        return (values * scale).double()

    def uniform(self, *shape, bound=1.0):
        values = torch.rand(*shape, generator=self.generator)
        return ((values * 2 - 1) * bound).double()


def lstm_case(draw, name, layers, proj):
    steps, batch, inputs, hidden = 5, 3, 7, 5
    state = proj or hidden
    model = nn.LSTM(inputs, hidden, layers, proj_size=proj).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(draw.uniform(*weight.shape, bound=0.6))
    x = draw.normal(steps, batch, inputs).requires_grad_()
    h0 = draw.normal(layers, batch, state, scale=0.5)
    c0 = draw.normal(layers, batch, hidden, scale=0.5)
    r = draw.normal(steps, batch, state)

    output, (h_n, c_n) = model(x, (h0, c0))
    (output * r).sum().backward()
    weights = dict(model.named_parameters())
    return {
        "name": name, "layers": layers, "steps": steps, "batch": batch,
        "input": inputs, "hidden": hidden, "proj": proj,
        "weights": weights, "x": x, "h0": h0, "c0": c0, "r": r,
        "output": output, "hT": h_n, "cT": c_n,
        "grad_x": x.grad,
        "grad_weights": {key: w.grad for key, w in weights.items()},
    }


def lstm(draw):
    """loss = sum(output * r); gates in order i, f, g, o; h0, c0 constant."""
    return [
        lstm_case(draw, "one_layer", 1, 0),
        lstm_case(draw, "two_layers", 2, 0),
        lstm_case(draw, "one_layer_projected", 1, 3),
        lstm_case(draw, "two_layers_projected", 2, 3),
    ]


def cross_entropy_case(draw, name, scale):
    count, width, classes, ignore = 6, 5, 11, -1
    x = draw.normal(count, width).requires_grad_()
    w = draw.normal(classes, width, scale=scale).requires_grad_()
    b = draw.normal(classes, scale=0.5).requires_grad_()
    targets = torch.tensor([3, 0, ignore, 10, 3, 7])

    logits = F.linear(x, w, b)
    loss = F.cross_entropy(logits, targets, ignore_index=ignore)
    loss.backward()
    # reduction="none" gives 0 where the target is ignored.
    log_probs = -F.cross_entropy(logits, targets, ignore_index=ignore,
                                 reduction="none")
    return {
        "name": name, "ignore_index": ignore,
        "x": x, "w": w, "b": b, "targets": targets,
        "loss": loss.item(), "target_log_probs": log_probs,
        "log_probs": F.log_softmax(logits, dim=1),
        "grad_x": x.grad, "grad_w": w.grad, "grad_b": b.grad,
    }


def cross_entropy(draw):
    """logits = x w^T + b; loss is the mean over targets not ignored."""
    return [
        cross_entropy_case(draw, "plain", 0.7),
        # exp of these logits overflows a float unless the maximum is taken off
        cross_entropy_case(draw, "large_logits", 60.0),
    ]


def adaptive_softmax_case(draw, name, cutoffs, division, head_bias):
    tokens, inputs, classes = 12, 8, 23
    layer = nn.AdaptiveLogSoftmaxWithLoss(inputs, classes, cutoffs, div_value=division,
                                          head_bias=head_bias).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw.normal(*parameter.shape, scale=0.7))
    x = draw.normal(tokens, inputs).requires_grad_()
    # Every part, the ends of each, and one of them several times.
    targets = torch.tensor([0, 3, 4, 9, 10, 22, 4, 5, 16, 1, 22, 11])
    output, loss = layer(x, targets)
    loss.backward()
    top = layer.log_prob(x).topk(5, dim=1)
    return {
        "name": name, "cutoffs": cutoffs, "division": division,
        "head_bias": int(head_bias), "x": x, "targets": targets,
        "weights": dict(layer.named_parameters()),
        "loss": loss.item(), "target_log_probs": output,
        "top_ids": top.indices, "top_scores": top.values, "grad_x": x.grad,
        "grad_weights": {key: p.grad for key, p in layer.named_parameters()},
    }


def adaptive_softmax(draw):
    """AdaptiveLogSoftmaxWithLoss; targets in every cluster."""
    return [
        adaptive_softmax_case(draw, "two_clusters", [4, 10], 2.0, False),
        adaptive_softmax_case(draw, "three_clusters_bias", [4, 10, 17], 2.0, True),
        adaptive_softmax_case(draw, "one_cluster", [10], 1.0, False),
    ]


def embedding_case(draw, name, padding_idx):
    rows, width = 9, 4
    # Ids repeat, in one row and across them; 3, 6 and 7 are never read.
    ids = torch.tensor([[2, 5, 2], [1, 8, 2], [0, 1, 5], [2, 4, 1]])
    table = nn.Embedding(rows, width, padding_idx=padding_idx).double()
    with torch.no_grad():
        table.weight.copy_(draw.normal(rows, width))
        if padding_idx is not None:
            table.weight[padding_idx] = 0  # what nn.Embedding starts from
    r = draw.normal(*ids.shape, width)

    output = table(ids)
    (output * r).sum().backward()
    return {
        "name": name,
        "padding_idx": -1 if padding_idx is None else padding_idx,
        "ids": ids, "weight": table.weight, "r": r,
        "output": output, "grad_weight": table.weight.grad,
    }


def embedding(draw):
    """loss = sum(output * r); padding_idx -1 means that there is none."""
    return [
        embedding_case(draw, "no_padding", None),
        embedding_case(draw, "padding", 2),
    ]


def optimizer_case(name, make, settings, start, gradients):
    parameter = nn.Parameter(start.clone())
    optimizer = make([parameter], **settings)
    after = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        after.append(parameter.detach().clone())
    flat = {}
    for key, value in settings.items():
        if key == "betas":
            flat["beta1"], flat["beta2"] = value
        else:
            flat[key] = value
    return {"name": name, "settings": flat, "start": start,
            "gradients": gradients, "after": after}


def optimizers(draw):
    """The parameter after each of five steps."""
    start = draw.normal(4, 3)
    gradients = [draw.normal(4, 3) for _ in range(5)]
    # A gradient of zero, for every step and for one: momentum must carry on,
    # and nothing may divide by zero.
    for gradient in gradients:
        gradient[0, 1] = 0
    gradients[2][3] = 0

    optim = torch.optim
    adam = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
    table = [
        ("sgd", optim.SGD, {"lr": 0.1}),
        ("momentum", optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        ("nesterov", optim.SGD,
         {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("adagrad", optim.Adagrad, {"lr": 0.1, "eps": 1e-10}),
        ("adagrad", optim.Adagrad,
         {"lr": 0.1, "eps": 1e-10, "initial_accumulator_value": 0.1}),
        ("rmsprop", optim.RMSprop, {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}),
        ("adam", optim.Adam, adam),
        ("adamw", optim.AdamW, {**adam, "weight_decay": 0.01}),
    ]
    return [optimizer_case(name, make, settings, start, gradients)
            for name, make, settings in table]


def clip_case(name, max_norm, gradients):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.clone()
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return {"name": name, "max_norm": max_norm, "norm": norm.item(),
            "before": gradients, "after": [p.grad for p in parameters]}


def clip(draw):
    """scale = min(1, max_norm / (norm + 1e-6)), norm over all the tensors."""
    gradients = [draw.normal(4, 3), draw.normal(7), draw.normal(2, 3, 2)]
    return [
        clip_case("above", 0.25, gradients),
        clip_case("below", 100.0, gradients),
        clip_case("zero", 0.25, [torch.zeros_like(g) for g in gradients]),
    ]


def number(value):
    if isinstance(value, float):
        # Below what a float holds: some readers take such a number for an
        # error.  This also does away with -0.
        return f"{value:.9g}" if abs(value) >= SMALLEST_FLOAT else "0"
    return json.dumps(value)


def to_text(value, indent=0):
    """JSON with one array to a line, so that a change reads well in a diff."""
    if isinstance(value, torch.Tensor):
        data = ", ".join(number(v) for v in value.detach().flatten().tolist())
        shape = json.dumps(list(value.shape))
        return f'{{"shape": {shape}, "data": [{data}]}}'
    pad, end = " " * (indent + 1), " " * indent
    if isinstance(value, dict):
        rows = [f"{pad}{json.dumps(key)}: {to_text(item, indent + 1)}"
                for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{end}}}"
    if isinstance(value, list):
        rows = [pad + to_text(item, indent + 1) for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{end}]"
    return number(value)


def main():
    parser = argparse.ArgumentParser(
        description="Write the golden values of the tests, from PyTorch.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent,
                        help="folder to write to (default: this script's)")
    parser.add_argument("--seed", type=int, default=20240607,
                        help="seed of the inputs (default: %(default)s)")
    args = parser.parse_args()

    # One thread, so that no sum depends on how the work was split.
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for make in (lstm, cross_entropy, adaptive_softmax, embedding, optimizers, clip):
        # Each file has its own stream: a case added to one leaves the others.
        content = {
            "about": make.__doc__,
            "torch": torch.__version__.split("+")[0],
            "seed": args.seed,
            "cases": make(Draw(args.seed)),
        }
        path = args.out / f"{make.__name__}.json"
        path.write_text(to_text(content) + "\n", encoding="utf-8")
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
