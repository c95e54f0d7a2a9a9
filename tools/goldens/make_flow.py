"""flow.safetensors and flow.json: sigma tables, CPS and Flow-SDE steps, advantages, the clipped loss and the KL term.

The steps are written from docs/method.md 1.5 in NumPy float64 (linear form) and held against torch autograd on the
predicted-endpoint form. Gradients of a log-probability are with respect to the velocity, the next latent fixed.
"""
import math

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from common import FIXTURES, SEED, normal, rng, save_json, save_tensors, versions

tensors, document = {}, {}


def float32(value):
    return float(np.float32(value))


# ---------------------------------------------------------------- schedule

def shifted(u, shift):
    return shift * u / (1 + (shift - 1) * u)


def sigma_table(steps, shift):
    """The smallest training sigma is shifted once when the scheduler is made and a second time here, as the reference does."""
    table = [*shifted(np.linspace(1, shifted(1 / 1000, shift), steps), shift), 0.0]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    assert np.abs(scheduler.sigmas.numpy() - table).max() < 2e-7
    return {"steps": steps, "shift": shift, "sigmas_float64": table, "sigmas": [float(s) for s in scheduler.sigmas],
            "timesteps": [float(t) for t in scheduler.timesteps]}


document["schedules"] = [sigma_table(steps, shift) for shift in (3.0, 1.0) for steps in (4, 10, 28, 40)]


# ---------------------------------------------------------------- steps

def cps_step(x, v, noise, sigma, sigma_next, eta):
    """(mean, next, s) of Flow-CPS, the mean in its linear form."""
    s, k = sigma_next * math.sin(eta * math.pi / 2), math.cos(eta * math.pi / 2)
    mean = x * ((1 - sigma_next) + k * sigma_next) + v * (-sigma * (1 - sigma_next) + k * (1 - sigma) * sigma_next)
    return mean, mean + s * noise, s


def cps_log_probability(following, mean):
    return -((following - mean) ** 2).reshape(len(mean), -1).mean(1)


def sde_step(x, v, noise, sigma, sigma_next, eta, second_sigma):
    """(mean, next, standard deviation) of Flow-SDE; `second_sigma` stands in for sigma = 1 inside 1 - sigma only."""
    dt = sigma_next - sigma
    g = eta * math.sqrt(sigma / (1 - (second_sigma if sigma == 1 else sigma)))
    mean = x * (1 + g * g * dt / (2 * sigma)) + v * (1 + g * g * (1 - sigma) / (2 * sigma)) * dt
    return mean, mean + g * math.sqrt(-dt) * noise, g * math.sqrt(-dt)


def sde_log_probability(following, mean, deviation):
    density = -((following - mean) ** 2) / (2 * deviation ** 2) - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return density.reshape(len(mean), -1).mean(1)


def torch_step(kind, x, v, sigma, sigma_next, eta, second_sigma):
    """The same means by predicted endpoints (CPS) and by drift and score (SDE): not the algebra above."""
    clean, noise = x - sigma * v, x + (1 - sigma) * v
    if kind == "cps":
        s = sigma_next * math.sin(eta * math.pi / 2)
        return (1 - sigma_next) * clean + math.sqrt(sigma_next ** 2 - s ** 2) * noise, s
    dt = sigma_next - sigma
    g = eta * math.sqrt(sigma / (1 - (second_sigma if sigma == 1 else sigma)))
    score = -noise / sigma  # of the noised data at sigma: -E[x1] / sigma
    return x + (v - 0.5 * g * g * score) * dt, g * math.sqrt(-dt)


def step_case(name, kind, sigma, sigma_next, eta, second_sigma=None):
    sigma, sigma_next = float32(sigma), float32(sigma_next)
    second_sigma = None if second_sigma is None else float32(second_sigma)
    x, v, v_new, noise = (normal(f"{name}/{part}", 3, 2, 4, 4) for part in ("sample", "velocity", "change", "noise"))
    v_new = (v + 0.05 * v_new).float().double()
    if kind == "cps":
        mean, following, deviation = cps_step(x.numpy(), v.numpy(), noise.numpy(), sigma, sigma_next, eta)
    else:
        mean, following, deviation = sde_step(x.numpy(), v.numpy(), noise.numpy(), sigma, sigma_next, eta, second_sigma)
    stored = torch.from_numpy(following.astype(np.float32).astype(np.float64))  # what training reads back
    case = {"sample": x, "velocity": v, "velocity_new": v_new, "noise": noise, "mean": mean, "next": stored,
            "sigma": np.array([sigma]), "sigma_next": np.array([sigma_next]), "noise_level": np.array([eta]), "deviation": np.array([deviation])}
    if deviation > 0:
        upstream = normal(f"{name}/grad_log_probability", 3)
        for suffix, velocity in (("", v), ("_new", v_new)):
            leaf = velocity.detach().clone().requires_grad_()
            reference_mean, reference_deviation = torch_step(kind, x, leaf, sigma, sigma_next, eta, second_sigma)
            assert abs(reference_deviation - deviation) < 1e-12
            if kind == "cps":
                written = cps_log_probability(stored.numpy(), cps_step(x.numpy(), velocity.numpy(), 0, sigma, sigma_next, eta)[0])
                value = -((stored - reference_mean) ** 2).mean((1, 2, 3))
            else:
                written = sde_log_probability(stored.numpy(), sde_step(x.numpy(), velocity.numpy(), 0, sigma, sigma_next, eta, second_sigma)[0], deviation)
                value = torch.distributions.Normal(reference_mean, deviation).log_prob(stored).mean((1, 2, 3))
            assert np.abs(written - value.detach().numpy()).max() < 1e-10, name
            value.backward(upstream)
            case[f"log_probability{suffix}"], case[f"grad_velocity{suffix}"] = written, leaf.grad
        case["grad_log_probability"] = upstream
        if second_sigma is not None:
            case["second_sigma"] = np.array([second_sigma])
    tensors.update({f"{name}/{key}": value for key, value in case.items()})


table = next(s["sigmas"] for s in document["schedules"] if s["steps"] == 10 and s["shift"] == 3.0)
for index in (0, 1, 8):
    step_case(f"cps.{index}", "cps", table[index], table[index + 1], 0.8)
    step_case(f"sde.{index}", "sde", table[index], table[index + 1], 0.7, second_sigma=table[1])
step_case("cps.last", "cps", table[9], 0.0, 0.8)
step_case("cps.ode", "cps", table[3], table[4], 0.0)
step_case("cps.full_noise", "cps", table[1], table[2], 1.0)

hand = {0: (0.336567, -0.039871, 0.913137, -0.833820, 0.800000), 1: (0.368891, -0.071943, 0.868646, -0.754547, 0.849102)}
document["coefficients"] = []
for index, expected in hand.items():
    sigma, following = table[index], table[index + 1]
    k, s = math.cos(0.4 * math.pi), following * math.sin(0.4 * math.pi)
    g = 0.8 * math.sqrt(sigma / (1 - (table[1] if sigma == 1 else sigma)))
    row = ((1 - following) + k * following, -sigma * (1 - following) + k * (1 - sigma) * following, s, -s * s, g * math.sqrt(sigma - following))
    assert np.abs(np.array(row) - expected).max() < 2e-6, (row, expected)
    document["coefficients"].append(dict(zip(("sample", "velocity", "cps_deviation", "expected_log_probability", "sde_deviation"), row),
                                         index=index, sigma=sigma, sigma_next=following, noise_level=0.8))


# ---------------------------------------------------------------- guidance, advantages, loss

negative, positive = normal("guidance/negative", 2, 3, 4, 4), normal("guidance/positive", 2, 3, 4, 4)
tensors.update({"guidance/negative": negative, "guidance/positive": positive, "guidance/scale": np.array([4.5]),
                "guidance/output": negative + 4.5 * (positive - negative)})


def advantage_case(name, rewards, groups):
    rewards = np.asarray(rewards, dtype=np.float32).astype(np.float64)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    mean = np.zeros_like(rewards)
    deviation = np.zeros_like(rewards)
    for index in members:
        mean[index], deviation[index] = rewards[index].mean(), rewards[index].std()
    deviations = np.array([rewards[index].std() for index in members])
    tensors.update({
        f"{name}/rewards": rewards, f"{name}/groups": groups.astype(np.int32),
        f"{name}/global": (rewards - mean) / (rewards.std() + 1e-4), f"{name}/group": (rewards - mean) / (deviation + 1e-4),
        f"{name}/zero_deviation_ratio": np.array([np.mean(deviations == 0)]), f"{name}/mean_group_deviation": np.array([deviations.mean()])})


groups = np.repeat(np.arange(4), 6)
rewards = rng("advantage").standard_normal(24) * 0.2 + np.repeat([0.1, 1.0, -0.5, 0.3], 6)
rewards[18:] = 0.25  # a group without spread; exact in float32
advantage_case("advantage.plain", rewards, groups)
order = rng("advantage/order").permutation(24)
advantage_case("advantage.shuffled", rewards[order], groups[order])
outlier = np.zeros(32)
outlier[5] = 1.0
advantage_case("advantage.outlier", outlier, np.repeat(np.arange(2), 16))


def policy_case(name, log_probability, old, advantages, epsilon, limit=5.0):
    log_probability, old, advantages = (torch.as_tensor(a).float().double() for a in (log_probability, old, advantages))
    leaf = log_probability.clone().requires_grad_()
    clamped, ratio = advantages.clamp(-limit, limit), (leaf - old).exp()
    loss = torch.maximum(-clamped * ratio, -clamped * ratio.clamp(1 - epsilon, 1 + epsilon)).mean()
    loss.backward()
    change = (leaf - old).detach()
    outside = ((ratio - 1).abs() > epsilon).double().mean()
    tensors.update({
        f"{name}/log_probability": log_probability, f"{name}/old_log_probability": old, f"{name}/advantages": advantages,
        f"{name}/epsilon": np.array([epsilon]), f"{name}/advantage_limit": np.array([limit]), f"{name}/loss": loss.reshape(1),
        f"{name}/grad_log_probability": leaf.grad, f"{name}/ratio": ratio, f"{name}/approximate_kl": 0.5 * (change ** 2).mean().reshape(1),
        f"{name}/clip_fraction": outside.reshape(1),
        f"{name}/clip_fraction_above": ((ratio - 1) > epsilon).double().mean().reshape(1),
        f"{name}/clip_fraction_below": ((1 - ratio) > epsilon).double().mean().reshape(1)})


old = -0.8 + 0.02 * rng("policy/old").standard_normal(16)
advantages = rng("policy/advantages").standard_normal(16) * 2
advantages[:2] = (7.5, -9.0)  # beyond the limit of 5
policy_case("policy_loss.method", old + 2e-5 * rng("policy/small").standard_normal(16), old, advantages, 1e-5)
policy_case("policy_loss.wide", old + 0.2 * rng("policy/large").standard_normal(16), old, advantages, 0.2)
policy_case("policy_loss.on_policy", old, old, advantages, 1e-5)

mean, reference = normal("kl/mean", 3, 2, 4, 4), normal("kl/reference", 3, 2, 4, 4)
leaf = mean.clone().requires_grad_()
for name, divisor in (("kl.cps", 1.0), ("kl.sde", 2 * 0.85 ** 2)):
    leaf.grad = None
    value = 0.04 * ((leaf - reference) ** 2 / divisor).mean()
    value.backward()
    tensors.update({f"{name}/mean": mean, f"{name}/reference_mean": reference, f"{name}/weight": np.array([0.04]), f"{name}/value": value.reshape(1),
                    f"{name}/grad_mean": leaf.grad.clone()})
tensors["kl.sde/deviation"] = np.array([0.85])

save_tensors(FIXTURES / "flow.safetensors", tensors, seed=SEED, versions=versions("diffusers", "numpy"), computed="float64, stored as float32",
             tolerance="atol 1e-5 + rtol 1e-5; policy_loss.method and its ratio atol 1e-6 (log-probabilities are exact in float32)")
save_json(FIXTURES / "flow.json", document)
