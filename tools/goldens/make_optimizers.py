"""optimizers.safetensors: AdamW, Adam, gradient clipping and the EMA of the method, from torch in float64.

Optimisers: CASE/{initial,gradients[5],values[5],first_moment,second_moment,options}; options = lr, beta1, beta2, eps, weight decay.
"""
import numpy as np
import torch

from common import FIXTURES, SEED, normal, save_tensors, versions

tensors = {}


def optimizer_case(name, make, lr, betas, eps, decay):
    initial, gradients = normal(f"{name}/initial", 3, 4), normal(f"{name}/gradients", 5, 3, 4)
    gradients[2] *= 1e-4  # a small gradient among large ones: where eps and the moments' bias correction matter
    gradients = gradients.float().double()
    parameter = torch.nn.Parameter(initial.clone())
    optimizer = make([parameter], lr=lr, betas=betas, eps=eps, weight_decay=decay)
    values = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        values.append(parameter.detach().clone())
    state = optimizer.state[parameter]
    tensors.update({f"{name}/initial": initial, f"{name}/gradients": gradients, f"{name}/values": torch.stack(values),
                    f"{name}/first_moment": state["exp_avg"], f"{name}/second_moment": state["exp_avg_sq"],
                    f"{name}/options": np.array([lr, *betas, eps, decay])})


optimizer_case("adamw.policy", torch.optim.AdamW, 3e-4, (0.9, 0.999), 1e-8, 1e-4)
optimizer_case("adamw.large", torch.optim.AdamW, 0.05, (0.9, 0.99), 1e-6, 0.1)
optimizer_case("adam.discriminator", torch.optim.Adam, 1e-4, (0.5, 0.999), 1e-8, 0.0)
optimizer_case("adam.large", torch.optim.Adam, 0.02, (0.5, 0.999), 1e-8, 0.0)

for name, scale in (("clip_grad_norm.above", 1.0), ("clip_grad_norm.below", 0.05)):
    parameters = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in ((3, 4), (5,), (2, 2, 2))]
    for index, parameter in enumerate(parameters):
        parameter.grad = normal(f"{name}/{index}", *parameter.shape, scale=scale)
        tensors[f"{name}/gradients.{index}"] = parameter.grad.clone()
    tensors[f"{name}/norm"] = torch.nn.utils.clip_grad_norm_(parameters, 1.0).reshape(1)
    tensors[f"{name}/limit"] = np.array([1.0])
    tensors.update({f"{name}/clipped.{index}": parameter.grad for index, parameter in enumerate(parameters)})

# One row per policy update n = 0, 1, ...: decay = min((1 + n) / (10 + n), 0.9), applied only when (n + 1) mod 8 = 0.
values, initial, interval = normal("ema/values", 100, 4), normal("ema/initial", 4), 8
average, history = initial.clone(), []
for update, value in enumerate(values):
    if (update + 1) % interval == 0:
        average = average + (1 - min((1 + update) / (10 + update), 0.9)) * (value - average)
    history.append(average)
tensors.update({"ema/initial": initial, "ema/values": values, "ema/averages": torch.stack(history), "ema/interval": np.array([interval], dtype=np.int32),
                "ema/decays": np.array([min((1 + n) / (10 + n), 0.9) for n in range(100)])})

save_tensors(FIXTURES / "optimizers.safetensors", tensors, seed=SEED, versions=versions(), computed="float64, stored as float32",
             tolerance="atol 1e-6 + rtol 1e-5")
