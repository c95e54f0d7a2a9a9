"""The discriminator's losses and token selection, shared by the reward and the whole-run fixtures."""
import torch
import torch.nn.functional as F


def hinge(real, fake):
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def accuracy(real, fake):
    return 0.5 * ((real > 0).double().mean() + (fake < 0).double().mean())


def unit(features, epsilon=0.0):
    return features / (features.norm(dim=-1, keepdim=True) + epsilon)


def gather(patches, indices):
    """patches [B, N, D], indices [B, n], with repeats -> [B, n, D]."""
    return torch.gather(patches, 1, indices.long()[..., None].expand(-1, -1, patches.shape[-1]))
