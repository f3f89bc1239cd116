#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "klein/weights/renaming.h"

namespace klein::test {

using weights::Shape;
using weights::Shapes;

/// Names and shapes of the published checkpoints, written down from the models' own sources.
struct TransformerSizes {
  int doubles, singles;
  std::int64_t width, prompt;
};
constexpr TransformerSizes k4b{5, 20, 3072, 7680};
constexpr TransformerSizes k9b{8, 24, 4096, 12288};

/// black-forest-labs/FLUX.2-klein-4B/flux-2-klein-4b.safetensors and its like.
inline Shapes bfl_transformer(const TransformerSizes& s, const std::string& prefix = "") {
  const auto d = s.width;
  Shapes t;
  const auto add = [&](const std::string& name, Shape shape) { t[prefix + name] = shape; };
  add("img_in.weight", {d, 128});
  add("txt_in.weight", {d, s.prompt});
  add("time_in.in_layer.weight", {d, 256});
  add("time_in.out_layer.weight", {d, d});
  add("double_stream_modulation_img.lin.weight", {6 * d, d});
  add("double_stream_modulation_txt.lin.weight", {6 * d, d});
  add("single_stream_modulation.lin.weight", {3 * d, d});
  add("final_layer.linear.weight", {128, d});
  add("final_layer.adaLN_modulation.1.weight", {2 * d, d});
  for (int i = 0; i < s.doubles; ++i)
    for (const std::string stream : {"img", "txt"}) {
      const auto b = "double_blocks." + std::to_string(i) + "." + stream;
      add(b + "_attn.qkv.weight", {3 * d, d});
      add(b + "_attn.proj.weight", {d, d});
      add(b + "_attn.norm.query_norm.scale", {128});
      add(b + "_attn.norm.key_norm.scale", {128});
      add(b + "_mlp.0.weight", {6 * d, d});
      add(b + "_mlp.2.weight", {d, 3 * d});
    }
  for (int i = 0; i < s.singles; ++i) {
    const auto b = "single_blocks." + std::to_string(i);
    add(b + ".linear1.weight", {9 * d, d});
    add(b + ".linear2.weight", {d, 4 * d});
    add(b + ".norm.query_norm.scale", {128});
    add(b + ".norm.key_norm.scale", {128});
  }
  return t;
}

/// The same weights in transformer/ of the repository; mflux spells three names otherwise.
inline Shapes diffusers_transformer(const TransformerSizes& s, bool mflux = false) {
  const auto d = s.width;
  const std::string time =
      mflux ? "time_guidance_embed." : "time_guidance_embed.timestep_embedder.";
  Shapes t{{"x_embedder.weight", {d, 128}},
           {"context_embedder.weight", {d, s.prompt}},
           {time + "linear_1.weight", {d, 256}},
           {time + "linear_2.weight", {d, d}},
           {"double_stream_modulation_img.linear.weight", {6 * d, d}},
           {"double_stream_modulation_txt.linear.weight", {6 * d, d}},
           {"single_stream_modulation.linear.weight", {3 * d, d}},
           {"norm_out.linear.weight", {2 * d, d}},
           {"proj_out.weight", {128, d}}};
  for (int i = 0; i < s.doubles; ++i) {
    const auto b = "transformer_blocks." + std::to_string(i) + ".";
    for (const std::string name :
         {"to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"})
      t[b + "attn." + name + ".weight"] = {d, d};
    t[b + (mflux ? "attn.to_out.weight" : "attn.to_out.0.weight")] = {d, d};
    for (const std::string name : {"norm_q", "norm_k", "norm_added_q", "norm_added_k"})
      t[b + "attn." + name + ".weight"] = {128};
    for (const std::string ff : {"ff", "ff_context"}) {
      t[b + ff + ".linear_in.weight"] = {6 * d, d};
      t[b + ff + ".linear_out.weight"] = {d, 3 * d};
    }
  }
  for (int i = 0; i < s.singles; ++i) {
    const auto b = "single_transformer_blocks." + std::to_string(i) + ".attn.";
    t[b + "to_qkv_mlp_proj.weight"] = {9 * d, d};
    t[b + "to_out.weight"] = {d, 4 * d};
    t[b + "norm_q.weight"] = {128};
    t[b + "norm_k.weight"] = {128};
  }
  return t;
}

/// Qwen3 4B (hidden 2560, MLP 9728) or 8B (4096, 12288) as transformers saves it.
inline Shapes qwen3(std::int64_t hidden, std::int64_t mlp, bool head,
                    const std::string& model = "model.") {
  Shapes t{{model + "embed_tokens.weight", {151936, hidden}}, {model + "norm.weight", {hidden}}};
  if (head) t["lm_head.weight"] = {151936, hidden};
  for (int i = 0; i < 36; ++i) {
    const auto b = model + "layers." + std::to_string(i) + ".";
    t[b + "self_attn.q_proj.weight"] = {4096, hidden};
    t[b + "self_attn.k_proj.weight"] = {1024, hidden};
    t[b + "self_attn.v_proj.weight"] = {1024, hidden};
    t[b + "self_attn.o_proj.weight"] = {hidden, 4096};
    t[b + "self_attn.q_norm.weight"] = {128};
    t[b + "self_attn.k_norm.weight"] = {128};
    t[b + "mlp.gate_proj.weight"] = {mlp, hidden};
    t[b + "mlp.up_proj.weight"] = {mlp, hidden};
    t[b + "mlp.down_proj.weight"] = {hidden, mlp};
    t[b + "input_layernorm.weight"] = {hidden};
    t[b + "post_attention_layernorm.weight"] = {hidden};
  }
  return t;
}

/// The same model in a GGUF file of llama.cpp.
inline Shapes qwen3_gguf(std::int64_t hidden, std::int64_t mlp, bool head) {
  Shapes t{{"token_embd.weight", {151936, hidden}}, {"output_norm.weight", {hidden}}};
  if (head) t["output.weight"] = {151936, hidden};
  for (int i = 0; i < 36; ++i) {
    const auto b = "blk." + std::to_string(i) + ".";
    t[b + "attn_q.weight"] = {4096, hidden};
    t[b + "attn_k.weight"] = {1024, hidden};
    t[b + "attn_v.weight"] = {1024, hidden};
    t[b + "attn_output.weight"] = {hidden, 4096};
    t[b + "attn_q_norm.weight"] = {128};
    t[b + "attn_k_norm.weight"] = {128};
    t[b + "ffn_gate.weight"] = {mlp, hidden};
    t[b + "ffn_up.weight"] = {mlp, hidden};
    t[b + "ffn_down.weight"] = {hidden, mlp};
    t[b + "attn_norm.weight"] = {hidden};
    t[b + "ffn_norm.weight"] = {hidden};
  }
  return t;
}

/// The autoencoder: `decoder` are its decoder's widths, finest first.
class PublishedVae {
 public:
  PublishedVae(std::vector<std::int64_t> decoder, bool bfl, std::string prefix = "")
      : decoder_(std::move(decoder)), bfl_(bfl), prefix_(std::move(prefix)) {
    build_encoder();
    build_decoder();
    add("bn.running_mean", {128});
    add("bn.running_var", {128});
    add("bn.num_batches_tracked", {});
  }

  Shapes tensors;

 private:
  void add(const std::string& name, Shape shape) { tensors[prefix_ + name] = std::move(shape); }

  void conv(const std::string& name, std::int64_t out, std::int64_t in, std::int64_t kernel) {
    add(name + ".weight", {out, in, kernel, kernel});
    add(name + ".bias", {out});
  }

  void norm(const std::string& name, std::int64_t width) {
    add(name + ".weight", {width});
    add(name + ".bias", {width});
  }

  void resnet(const std::string& name, std::int64_t in, std::int64_t out) {
    norm(name + ".norm1", in);
    conv(name + ".conv1", out, in, 3);
    norm(name + ".norm2", out);
    conv(name + ".conv2", out, out, 3);
    if (in != out) conv(name + (bfl_ ? ".nin_shortcut" : ".conv_shortcut"), out, in, 1);
  }

  void middle(const std::string& side, std::int64_t width) {
    const auto m = side + (bfl_ ? ".mid." : ".mid_block.");
    resnet(m + (bfl_ ? "block_1" : "resnets.0"), width, width);
    resnet(m + (bfl_ ? "block_2" : "resnets.1"), width, width);
    const auto a = m + (bfl_ ? "attn_1." : "attentions.0.");
    norm(a + (bfl_ ? "norm" : "group_norm"), width);
    const std::vector<std::string> names =
        bfl_ ? std::vector<std::string>{"q", "k", "v", "proj_out"}
             : std::vector<std::string>{"to_q", "to_k", "to_v", "to_out.0"};
    for (const auto& name : names) {
      add(a + name + ".weight", bfl_ ? Shape{width, width, 1, 1} : Shape{width, width});
      add(a + name + ".bias", {width});
    }
  }

  void build_encoder() {
    const std::vector<std::int64_t> widths{128, 256, 512, 512};
    conv("encoder.conv_in", 128, 3, 3);
    std::int64_t in = 128;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const auto level = "encoder." + std::string(bfl_ ? "down." : "down_blocks.") +
                         std::to_string(i) + (bfl_ ? ".block." : ".resnets.");
      for (int j = 0; j < 2; ++j)
        resnet(level + std::to_string(j), j == 0 ? in : widths[i], widths[i]);
      in = widths[i];
      if (i + 1 == widths.size()) break;
      conv("encoder." + (bfl_ ? "down." + std::to_string(i) + ".downsample.conv"
                              : "down_blocks." + std::to_string(i) + ".downsamplers.0.conv"),
           in, in, 3);
    }
    middle("encoder", 512);
    norm(bfl_ ? "encoder.norm_out" : "encoder.conv_norm_out", 512);
    conv("encoder.conv_out", 64, 512, 3);
    conv(bfl_ ? "encoder.quant_conv" : "quant_conv", 64, 64, 1);
    conv(bfl_ ? "decoder.post_quant_conv" : "post_quant_conv", 32, 32, 1);
  }

  void build_decoder() {
    conv("decoder.conv_in", decoder_.back(), 32, 3);
    middle("decoder", decoder_.back());
    std::int64_t in = decoder_.back();
    for (int i = 0; i < 4; ++i) {  // from the latents to the picture, as diffusers counts
      const auto level = std::to_string(bfl_ ? 3 - i : i);
      const auto out = decoder_[static_cast<std::size_t>(3 - i)];
      for (int j = 0; j < 3; ++j)
        resnet("decoder." + std::string(bfl_ ? "up." : "up_blocks.") + level +
                   (bfl_ ? ".block." : ".resnets.") + std::to_string(j),
               j == 0 ? in : out, out);
      in = out;
      if (i < 3)
        conv("decoder." + (bfl_ ? "up." + level + ".upsample.conv"
                                : "up_blocks." + level + ".upsamplers.0.conv"),
             out, out, 3);
    }
    norm(bfl_ ? "decoder.norm_out" : "decoder.conv_norm_out", decoder_.front());
    conv("decoder.conv_out", 3, decoder_.front(), 3);
  }

  std::vector<std::int64_t> decoder_;
  bool bfl_;
  std::string prefix_;
};

inline Shapes vae(bool bfl, std::vector<std::int64_t> decoder = {128, 256, 512, 512},
                  const std::string& prefix = "") {
  return PublishedVae(std::move(decoder), bfl, prefix).tensors;
}

/// mflux's copy of diffusers' autoencoder.
inline Shapes mflux_vae() {
  Shapes t;
  for (const auto& [name, shape] : vae(/*bfl=*/false)) {
    if (name == "bn.num_batches_tracked") continue;
    auto internal = name;
    const auto at = name.find("to_out.0.");
    if (at != name.npos) internal.erase(at + 6, 2);
    t[internal] = shape.size() == 4 ? Shape{shape[0], shape[2], shape[3], shape[1]} : shape;
  }
  return t;
}

}  // namespace klein::test
