"""Write random bf16 weights of SD3.5-medium's shape as a diffusers StableDiffusion3Pipeline folder, with a DINOv2 ViT-S/14.

usage: make_model.py OUT

Transformer (2,243,171,520 parameters and the position table, 4.94 GB) and autoencoder (84 M) have the real sizes. The two text encoders
have the real ones' widths but two layers, and the small tokenizers of Models/emoji-sd3-tiny; there is no T5. Nothing here resembles a
trained model: what it is for is memory and time. 6 GB of memory, a minute or two.
"""
import json
import pathlib
import shutil
import sys

import timm
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

TRANSFORMER = dict(sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=24, attention_head_dim=64,
                   num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048,
                   pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm")
VAE = dict(in_channels=3, out_channels=3, latent_channels=16, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
           norm_num_groups=32, sample_size=1024, down_block_types=("DownEncoderBlock2D",) * 4,
           up_block_types=("UpDecoderBlock2D",) * 4, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.5305,
           shift_factor=0.0609)
TINY = pathlib.Path(__file__).resolve().parents[2] / "Models/emoji-sd3-tiny"


def fill(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """bf16 tensors of these names: matrices and kernels normal with deviation 1 / sqrt(inputs), norms one, biases small."""
    tensors = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            tensors[name] = torch.randn(shape, dtype=torch.bfloat16).mul_(torch.Size(shape[1:]).numel() ** -0.5)
        elif name.endswith("bias"):
            tensors[name] = torch.randn(shape, dtype=torch.bfloat16).mul_(0.02)
        else:
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
    return tensors


def write(model: torch.nn.Module, folder: pathlib.Path, file: str, given: dict[str, torch.Tensor] | None = None) -> None:
    """The configuration of a model on the meta device, and weights for it; `given` ones are not drawn."""
    given = given or {}
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_config"):
        model.save_config(folder)
    else:
        model.config.save_pretrained(folder)
    tensors = fill({name: value.shape for name, value in model.state_dict().items() if name not in given}) | given
    save_file(tensors, folder / file, metadata={"format": "pt"})
    print(f"{folder}: {sum(value.numel() for value in tensors.values()):,} elements", flush=True)


def main(out: pathlib.Path) -> None:
    torch.manual_seed(20251125)
    with init_empty_weights(include_buffers=False):
        transformer = SD3Transformer2DModel(**TRANSFORMER)
    width, side = TRANSFORMER["caption_projection_dim"], TRANSFORMER["pos_embed_max_size"]
    table = get_2d_sincos_pos_embed(width, side, base_size=TRANSFORMER["sample_size"] // 2, output_type="pt")
    write(transformer, out / "transformer", "diffusion_pytorch_model.safetensors",
          {"pos_embed.pos_embed": table.reshape(1, side * side, width).to(torch.bfloat16)})
    with init_empty_weights(include_buffers=False):
        vae = AutoencoderKL(**VAE)
    write(vae, out / "vae", "diffusion_pytorch_model.safetensors")
    for name, tokenizer, hidden, heads in [("text_encoder", "tokenizer", 768, 12), ("text_encoder_2", "tokenizer_2", 1280, 20)]:
        vocabulary = len(json.loads((TINY / tokenizer / "vocab.json").read_text()))
        config = CLIPTextConfig(vocab_size=vocabulary, max_position_embeddings=77, hidden_size=hidden, intermediate_size=4 * hidden,
                                num_hidden_layers=2, num_attention_heads=heads, projection_dim=hidden, hidden_act="gelu",
                                architectures=["CLIPTextModelWithProjection"],
                                **json.loads((TINY / name / "config.json").read_text(), object_hook=token_ids))
        with init_empty_weights(include_buffers=False):
            encoder = CLIPTextModelWithProjection(config)
        write(encoder, out / name, "model.safetensors")
        shutil.copytree(TINY / tokenizer, out / tokenizer, dirs_exist_ok=True)
        settings = out / tokenizer / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 77}, indent=2))
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(out / "scheduler")
    shutil.copy(TINY / "model_index.json", out)

    (out / "dino").mkdir(exist_ok=True)
    name = "vit_small_patch14_dinov2"
    dino = timm.create_model(name, pretrained=False, num_classes=0, img_size=224)
    save_file(dino.state_dict(), out / "dino" / "model.safetensors")
    (out / "dino" / "config.json").write_text(json.dumps(dict(
        architecture=name, img_size=224, patch_size=14, embed_dim=dino.embed_dim, depth=len(dino.blocks),
        num_heads=dino.blocks[0].attn.num_heads, group=2), indent=2))


def token_ids(values: dict) -> dict:
    """The ids of a text configuration's special tokens; the pooled embedding is taken at the end-of-text one."""
    return {key: value for key, value in values.items() if key.endswith("_token_id")}


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
