"""supervised.safetensors: supervised flow matching on mmdit-a with its LoRA adapter, in plain PyTorch, float64.

The loss is that of diffusers' `train_dreambooth_lora_sd3.py` (logit-normal density of the levels, weight 1); what is drawn are the numbers of a
run of seed 5 (philox.py). `input/*`: `latents` [5, C, H, W] of five references, `text`, `pooled` (a row a reference), `negative_text`,
`negative_pooled` (one row). `reference`, `level`, `drops` [4, 3]: what four steps of three samples draw. `loss`, `grad_norm` [4] (before
clipping), `final/TENSOR` after the four steps. Constants are in the metadata.
"""
import json

import numpy as np
import torch

import philox
from common import FIXTURES, normal, save_tensors, versions
from make_grpo import Policy

SEED, PURPOSE = 5, 9
REFERENCES, BATCH, STEPS, SHAPE, SHIFT = 5, 3, 4, (4, 8, 8), 3.0
METHOD = dict(learning_rate=4e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-4, grad_norm_limit=0.3, prompt_dropout=0.3)


def permutation(number):
    """Fisher and Yates from the end."""
    words, order = philox.words(SEED, PURPOSE, (0, number, 0), REFERENCES), list(range(REFERENCES))
    for draw, last in enumerate(range(REFERENCES - 1, 0, -1)):
        other = int(words[draw] * np.uint64(last + 1) >> np.uint64(32))
        order[last], order[other] = order[other], order[last]
    return order


def draw(step, sample):
    """(reference, level, whether the prompt is dropped) of a sample."""
    number, place = divmod(step * BATCH + sample, REFERENCES)
    n = torch.from_numpy(philox.normals(SEED, PURPOSE, (1, step, sample), 2))[0]
    time = torch.sigmoid(n)
    uniform = (float(philox.words(SEED, PURPOSE, (1, step, sample), 5)[4]) + 0.5) / 2 ** 32
    return permutation(number)[place], float(SHIFT * time / (1 + (SHIFT - 1) * time)), uniform < METHOD["prompt_dropout"]


if __name__ == "__main__":
    policy = Policy()
    data = {"latents": normal("supervised/latents", REFERENCES, *SHAPE), "text": normal("supervised/text", REFERENCES, 5, 24),
            "pooled": normal("supervised/pooled", REFERENCES, 20), "negative_text": normal("supervised/negative_text", 1, 5, 24),
            "negative_pooled": normal("supervised/negative_pooled", 1, 20)}
    optimizer = torch.optim.AdamW(policy.parameters.values(), lr=METHOD["learning_rate"], betas=(METHOD["beta1"], METHOD["beta2"]), eps=METHOD["eps"],
                                  weight_decay=METHOD["weight_decay"])
    drawn, losses, norms = [[draw(step, sample) for sample in range(BATCH)] for step in range(STEPS)], [], []
    for step, samples in enumerate(drawn):
        clean = torch.stack([data["latents"][r] for r, _, _ in samples])
        noise = torch.stack([torch.from_numpy(philox.normals(SEED, PURPOSE, (2, step, s), clean[0].numel())).double().reshape(SHAPE) for s in range(BATCH)])
        level = torch.tensor([t for _, t, _ in samples], dtype=torch.float64)
        weight = level.view(-1, 1, 1, 1)
        text = torch.stack([data["negative_text"][0] if drops else data["text"][r] for r, _, drops in samples])
        pooled = torch.stack([data["negative_pooled"][0] if drops else data["pooled"][r] for r, _, drops in samples])
        velocity = policy.model(hidden_states=(1 - weight) * clean + weight * noise, timestep=(1000 * level).float(), encoder_hidden_states=text,
                                pooled_projections=pooled, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(velocity, noise - clean)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(policy.parameters.values(), METHOD["grad_norm_limit"])))
        losses.append(float(loss))
        optimizer.step()
    print(f"  losses {losses}, norms {norms}")
    assert any(drops for row in drawn for _, _, drops in row) and max(norms) > METHOD["grad_norm_limit"]
    tensors = {f"input/{key}": value for key, value in data.items()}
    tensors |= {"reference": torch.tensor([[r for r, _, _ in row] for row in drawn], dtype=torch.int32),
                "drops": torch.tensor([[int(d) for _, _, d in row] for row in drawn], dtype=torch.int32),
                "level": torch.tensor([[t for _, t, _ in row] for row in drawn]), "loss": torch.tensor(losses), "grad_norm": torch.tensor(norms)}
    tensors |= {f"final/{key}": p.detach().clone() for key, p in policy.parameters.items()}
    save_tensors(FIXTURES / "supervised.safetensors", tensors, seed=SEED, versions=versions("diffusers", "peft"),
                 computed="float64, stored as float32", tolerance="loss and norm 1e-4, final 2e-4",
                 constants=json.dumps({"shift": SHIFT, "method": METHOD}))
