"""The names that tensors of FLUX.2 Klein have in published files: Black Forest Labs', llama.cpp's, mflux's."""

import gguf
import torch
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers


def bfl_transformer(t):
    """Black Forest Labs' names; diffusers' own converter has to lead back to where we came from."""
    out = {"img_in.weight": t["x_embedder.weight"], "txt_in.weight": t["context_embedder.weight"],
           "time_in.in_layer.weight": t["time_guidance_embed.timestep_embedder.linear_1.weight"],
           "time_in.out_layer.weight": t["time_guidance_embed.timestep_embedder.linear_2.weight"],
           "double_stream_modulation_img.lin.weight": t["double_stream_modulation_img.linear.weight"],
           "double_stream_modulation_txt.lin.weight": t["double_stream_modulation_txt.linear.weight"],
           "single_stream_modulation.lin.weight": t["single_stream_modulation.linear.weight"],
           "final_layer.linear.weight": t["proj_out.weight"],
           "final_layer.adaLN_modulation.1.weight": torch.cat(t["norm_out.linear.weight"].chunk(2)[::-1])}
    doubles = 1 + max(int(k.split(".")[1]) for k in t if k.startswith("transformer_blocks."))
    singles = 1 + max(int(k.split(".")[1]) for k in t if k.startswith("single_transformer_blocks."))
    for i in range(doubles):
        b, d = f"transformer_blocks.{i}.", f"double_blocks.{i}."
        for stream, qkv, norms, proj, ff in (
            ("img", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), "to_out.0", "ff"),
            ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k"), "to_add_out",
             "ff_context"),
        ):
            out[f"{d}{stream}_attn.qkv.weight"] = torch.cat([t[f"{b}attn.{n}.weight"] for n in qkv])
            out[f"{d}{stream}_attn.proj.weight"] = t[f"{b}attn.{proj}.weight"]
            out[f"{d}{stream}_attn.norm.query_norm.scale"] = t[f"{b}attn.{norms[0]}.weight"]
            out[f"{d}{stream}_attn.norm.key_norm.scale"] = t[f"{b}attn.{norms[1]}.weight"]
            out[f"{d}{stream}_mlp.0.weight"] = t[f"{b}{ff}.linear_in.weight"]
            out[f"{d}{stream}_mlp.2.weight"] = t[f"{b}{ff}.linear_out.weight"]
    for i in range(singles):
        b, d = f"single_transformer_blocks.{i}.attn.", f"single_blocks.{i}."
        out[f"{d}linear1.weight"] = t[f"{b}to_qkv_mlp_proj.weight"]
        out[f"{d}linear2.weight"] = t[f"{b}to_out.weight"]
        out[f"{d}norm.query_norm.scale"] = t[f"{b}norm_q.weight"]
        out[f"{d}norm.key_norm.scale"] = t[f"{b}norm_k.weight"]
    back = transformer_back(out)
    assert back.keys() == t.keys() and all(torch.equal(back[k], t[k]) for k in t)
    return out


def transformer_back(bfl):
    """diffusers' names again, by diffusers itself."""
    return convert_flux2_transformer_checkpoint_to_diffusers(dict(bfl))


def bfl_vae(t, levels=2):
    """The names of ae.safetensors, whose attention consists of 1x1 convolutions."""
    def rename(k):
        for side in ("encoder", "decoder"):
            m = f"{side}.mid_block."
            for old, new in ((m + "resnets.0", f"{side}.mid.block_1"), (m + "resnets.1", f"{side}.mid.block_2"),
                             (m + "attentions.0.group_norm", f"{side}.mid.attn_1.norm"),
                             (m + "attentions.0.to_q", f"{side}.mid.attn_1.q"),
                             (m + "attentions.0.to_k", f"{side}.mid.attn_1.k"),
                             (m + "attentions.0.to_v", f"{side}.mid.attn_1.v"),
                             (m + "attentions.0.to_out.0", f"{side}.mid.attn_1.proj_out"),
                             (f"{side}.conv_norm_out", f"{side}.norm_out")):
                k = k.replace(old, new)
        for i in range(levels):
            k = k.replace(f"encoder.down_blocks.{i}.downsamplers.0", f"encoder.down.{i}.downsample")
            k = k.replace(f"encoder.down_blocks.{i}.resnets.", f"encoder.down.{i}.block.")
            k = k.replace(f"decoder.up_blocks.{i}.upsamplers.0", f"decoder.up.{levels - 1 - i}.upsample")
            k = k.replace(f"decoder.up_blocks.{i}.resnets.", f"decoder.up.{levels - 1 - i}.block.")
        k = k.replace("conv_shortcut", "nin_shortcut")
        if k.startswith("quant_conv"):
            return "encoder." + k
        return "decoder." + k if k.startswith("post_quant_conv") else k

    out = {rename(k): v for k, v in t.items()}
    assert len(out) == len(t)
    for k, v in out.items():
        if ".attn_1." in k and v.ndim == 2:
            out[k] = v[:, :, None, None]
    return out | {"bn.num_batches_tracked": torch.tensor(0)}


def llama_text(t, layers):
    """llama.cpp's names, from gguf's own table of them."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, layers)
    return {names.get_name(k, try_suffixes=(".weight",)): v for k, v in t.items()}


def mflux_names(part, t):
    """What mflux calls its parameters, convolutions channels-last."""
    out = {}
    for k, v in t.items():
        k = k.replace("timestep_embedder.", "").replace("to_out.0.", "to_out.")
        out[k.removeprefix("model.") if part == "text_encoder" else k] = (
            v.permute(0, 2, 3, 1).contiguous() if v.ndim == 4 else v)
    return out
