"""clip-a (quick_gelu, pad = end of text) and clip-b (gelu, pad = 0, legacy eos_token_id 2): tiny CLIPTextModelWithProjection.

golden.safetensors: `input_ids`, `hidden_states.N` (0 = embeddings, N = output of layer N), `penultimate` = hidden_states[-2],
`last_hidden_state` (after the final norm), `text_embeds` (pooled, projected); upstream gradients `grad_penultimate` and
`grad_text_embeds`, and `grad/PARAMETER` of sum(penultimate * grad_penultimate) + sum(text_embeds * grad_text_embeds).
"""
import shutil

import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from common import FIXTURES, MODEL_TOLERANCE, SEED, float32_error, normal, randomize, rng, save_tensors, versions

VOCABULARY, TOKENS, BEGIN, END = 30, 10, 28, 29
SHARED = dict(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, hidden_size=16, num_attention_heads=2, intermediate_size=24, projection_dim=12,
              bos_token_id=BEGIN, layer_norm_eps=1e-5, attn_implementation="sdpa")
MODELS = {
    "clip-a": dict(**SHARED, num_hidden_layers=3, hidden_act="quick_gelu", eos_token_id=END, pad_token_id=END),
    "clip-b": dict(**SHARED, num_hidden_layers=2, hidden_act="gelu", eos_token_id=2, pad_token_id=0),
}


def input_ids(name, pad):
    """Sentences of 4, 0, 1 and 8 (the most) tokens between begin and end, padded. Token 0 occurs as a word too."""
    rows = []
    for length in (4, 0, 1, TOKENS - 2):
        words = rng(f"{name}/ids/{length}").integers(0, BEGIN, length).tolist()
        rows.append(([BEGIN, *words, END] + [pad] * TOKENS)[:TOKENS])
    return torch.tensor(rows, dtype=torch.int32)


def run(model, ids, grad_penultimate, grad_text_embeds, dtype):
    model.to(dtype).zero_grad()
    output = model(input_ids=ids.long(), output_hidden_states=True)
    penultimate = output.hidden_states[-2]
    ((penultimate * grad_penultimate.to(dtype)).sum() + (output.text_embeds * grad_text_embeds.to(dtype)).sum()).backward()
    result = {f"hidden_states.{index}": state.detach() for index, state in enumerate(output.hidden_states[:model.config.num_hidden_layers])}
    result |= {"penultimate": penultimate.detach(), "last_hidden_state": output.last_hidden_state.detach(), "text_embeds": output.text_embeds.detach()}
    return result | {f"grad/{key}": p.grad.clone() for key, p in model.named_parameters()}


for name, configuration in MODELS.items():
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    model = CLIPTextModelWithProjection(CLIPTextConfig(**configuration)).eval()
    randomize(model, name)
    model.save_pretrained(folder)
    ids = input_ids(name, configuration["pad_token_id"])
    upstream = normal(f"{name}/grad_penultimate", len(ids), TOKENS, 16), normal(f"{name}/grad_text_embeds", len(ids), 12)
    approximate, exact = (run(model, ids, *upstream, dtype) for dtype in (torch.float32, torch.float64))

    # The pooled token is the first end of text, whatever follows it.
    with torch.no_grad():
        first = (ids == END).int().argmax(1)
        pooled = model.text_projection(exact["last_hidden_state"][torch.arange(len(ids)), first])
    assert torch.allclose(pooled, exact["text_embeds"], atol=1e-9)
    assert torch.equal(exact["penultimate"], exact[f"hidden_states.{configuration['num_hidden_layers'] - 1}"])
    save_tensors(folder / "golden.safetensors", {"input_ids": ids, "grad_penultimate": upstream[0], "grad_text_embeds": upstream[1], **exact},
                 seed=SEED, versions=versions("transformers"), computed="float64, stored as float32",
                 tolerance=MODEL_TOLERANCE, reference_float32_error=float32_error(exact, approximate))
    print(" ", float32_error(exact, approximate))
