"""single-file/: a checkpoint under Stability's names, as sd3_medium.safetensors is, in a folder with a pipeline's small files.

checkpoint.safetensors (F16) holds random weights of a tiny SD3: transformer, autoencoder, CLIP-L without its projection, CLIP-G, T5.
golden.safetensors is what diffusers' `from_single_file` makes of that very file: `latents` -> `velocity` and `timestep` 500 with `text`,
`pooled` of prompts.json, `image` -> `mean` (autoencoder), `decoded` of `latents`, `final` latents of three steps, guidance 2, for the
first prompt, and `t5` of the tokens 1...6. transformer.safetensors is the transformer alone, without a prefix.
"""
import json
import shutil

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel

from common import FIXTURES, normal, save_json, save_tensors, versions

FOLDER = FIXTURES / "single-file"
PROMPTS = ["cab abc", "12 ab!"]


def clip(tokenizer, width, act):
    return CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2, projection_dim=width,
        max_position_embeddings=tokenizer.model_max_length, hidden_act=act, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id))


def randomised(model, name):
    """Weights that no part could be exchanged in without a difference: norms and biases too are random."""
    state = {key: (normal(f"{name}.{key}", *value.shape, scale=0.2, offset=1.0 if "norm" in key and key.endswith("weight") else 0.0).half()
                   if value.is_floating_point() and "pos_embed.pos_embed" not in key else value) for key, value in model.state_dict().items()}
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    return model.eval()


def original_transformer(state, layers):
    """The layout of Stability's MMDiT: fused projections, shift before scale."""
    out = {}
    swapped = lambda value: torch.cat(list(reversed(value.chunk(2))))
    fused = lambda names, end: torch.cat([state[f"{name}.{end}"] for name in names])
    names = {"x_embedder.proj": "pos_embed.proj", "context_embedder": "context_embedder", "final_layer.linear": "proj_out",
             "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
             "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1", "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2"}
    for end in ("weight", "bias"):
        for theirs, ours in names.items():
            out[f"{theirs}.{end}"] = state[f"{ours}.{end}"]
        out[f"final_layer.adaLN_modulation.1.{end}"] = swapped(state[f"norm_out.linear.{end}"])
        for i in range(layers):
            ours, x, c = f"transformer_blocks.{i}", f"joint_blocks.{i}.x_block", f"joint_blocks.{i}.context_block"
            last = i == layers - 1
            out[f"{x}.attn.qkv.{end}"] = fused([f"{ours}.attn.to_{n}" for n in "qkv"], end)
            out[f"{c}.attn.qkv.{end}"] = fused([f"{ours}.attn.add_{n}_proj" for n in "qkv"], end)
            rows = {f"{x}.attn.proj": "attn.to_out.0", f"{x}.mlp.fc1": "ff.net.0.proj", f"{x}.mlp.fc2": "ff.net.2", f"{x}.adaLN_modulation.1": "norm1.linear"}
            if not last:
                rows |= {f"{c}.attn.proj": "attn.to_add_out", f"{c}.mlp.fc1": "ff_context.net.0.proj", f"{c}.mlp.fc2": "ff_context.net.2"}
            if f"{ours}.attn2.to_q.weight" in state:
                out[f"{x}.attn2.qkv.{end}"] = fused([f"{ours}.attn2.to_{n}" for n in "qkv"], end)
                rows[f"{x}.attn2.proj"] = "attn2.to_out.0"
            for theirs, name in rows.items():
                out[f"{theirs}.{end}"] = state[f"{ours}.{name}.{end}"]
            modulation = state[f"{ours}.norm1_context.linear.{end}"]
            out[f"{c}.adaLN_modulation.1.{end}"] = swapped(modulation) if last else modulation
            if end == "weight":
                norms = {f"{x}.attn.ln_q": "attn.norm_q", f"{x}.attn.ln_k": "attn.norm_k", f"{c}.attn.ln_q": "attn.norm_added_q", f"{c}.attn.ln_k": "attn.norm_added_k",
                         f"{x}.attn2.ln_q": "attn2.norm_q", f"{x}.attn2.ln_k": "attn2.norm_k"}
                out |= {f"{theirs}.weight": state[f"{ours}.{name}.weight"] for theirs, name in norms.items() if f"{ours}.{name}.weight" in state}
    return out | {"pos_embed": state["pos_embed.pos_embed"]}


def original_autoencoder(state, levels):
    out = {}
    for name, value in state.items():
        words = name
        for index in range(levels):
            words = words.replace(f"up_blocks.{index}.", f"up.{levels - 1 - index}.").replace(f"down_blocks.{index}.", f"down.{index}.")
        if "mid_block" in words:
            words = words.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2").replace("mid_block.attentions.0", "mid.attn_1")
            for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                words = words.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
            if "attn_1" in words and value.ndim == 2:
                value = value[:, :, None, None]
        words = words.replace("resnets.", "block.").replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        out[words.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")] = value
    return out


@torch.no_grad()
def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    tokenizer = CLIPTokenizer.from_pretrained(FIXTURES / "tokenizer-tiny")
    first, second = randomised(clip(tokenizer, 16, "quick_gelu"), "first"), randomised(clip(tokenizer, 24, "gelu"), "second")
    third = randomised(T5EncoderModel(T5Config(vocab_size=32, d_model=48, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")), "third")
    transformer = randomised(SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=48,
        caption_projection_dim=16, pooled_projection_dim=40, pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm"), "transformer")
    autoencoder = randomised(AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(8, 8, 16), layers_per_block=1, latent_channels=4,
        norm_num_groups=4, scaling_factor=1.5, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False), "vae")
    whole = StableDiffusion3Pipeline(transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), autoencoder, first, tokenizer, second, tokenizer, None, None)
    whole.save_pretrained(FOLDER)
    third.config.save_pretrained(FOLDER / "text_encoder_3")
    for weights in FOLDER.glob("*/*.safetensors"):
        weights.unlink()
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(FOLDER / name)
        shutil.copytree(FIXTURES / "tokenizer-tiny", FOLDER / name, ignore=shutil.ignore_patterns("golden.json"))
    parts = {"model.diffusion_model.": original_transformer(transformer.state_dict(), 3), "first_stage_model.": original_autoencoder(autoencoder.state_dict(), 3),
             "text_encoders.clip_l.transformer.": {k: v for k, v in first.state_dict().items() if "text_projection" not in k},
             "text_encoders.clip_g.transformer.": second.state_dict(), "text_encoders.t5xxl.transformer.": {k: v for k, v in third.state_dict().items() if "embed_tokens" not in k}}
    half = {prefix + name: value.half().contiguous() for prefix, part in parts.items() for name, value in part.items() if value.is_floating_point()}
    save_file(half | {"text_encoders.clip_l.logit_scale": torch.tensor(4.6)}, FOLDER / "checkpoint.safetensors")
    alone = "model.diffusion_model."
    save_file({name.removeprefix(alone): value for name, value in half.items() if name.startswith(alone)}, FOLDER / "transformer.safetensors")

    pipeline = StableDiffusion3Pipeline.from_single_file(
        str(FOLDER / "checkpoint.safetensors"), config=str(FOLDER), local_files_only=True, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    latents, image = normal("single-file.latents", 2, 4, 8, 8).float(), normal("single-file.image", 1, 3, 32, 32).float().clamp(-1, 1)
    length = tokenizer.model_max_length
    text, _, pooled, _ = pipeline.encode_prompt(PROMPTS, None, None, do_classifier_free_guidance=False, max_sequence_length=length)
    vae = pipeline.vae
    golden = {
        "latents": latents, "text": text, "pooled": pooled, "image": image[0],
        "velocity": pipeline.transformer(latents, text, pooled, torch.full((2,), 500.0)).sample,
        "mean": vae.encode(image).latent_dist.mean[0], "decoded": vae.decode(latents / 1.5 + 0.1).sample,
        "final": pipeline(prompt=PROMPTS[0], latents=latents[:1].clone(), num_inference_steps=3, guidance_scale=2.0, max_sequence_length=length,
                          output_type="latent", height=32, width=32).images[0],
        "t5": third.half().float()(torch.arange(1, 7)[None]).last_hidden_state[0],
    }
    save_tensors(FOLDER / "golden.safetensors", golden, versions=versions("diffusers", "transformers"))
    save_json(FOLDER / "prompts.json", PROMPTS)
    for weights in FOLDER.glob("*.safetensors"):
        weights.chmod(0o644)


main()
