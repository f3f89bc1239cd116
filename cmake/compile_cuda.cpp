// Compiles CUDA kernels with NVRTC for several GPUs and writes them as one C++ source. Neither a GPU
// nor nvcc is needed.
//
// Usage: compile_cuda OUT.cpp INCLUDE_DIR... -- KERNELS.cu:ARCH[,ARCH...]...
#include <nvrtc.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The machine code of one file for one GPU; empty, with the compiler's message printed, on errors.
std::string compile(const std::string& path, const std::string& arch,
                    const std::vector<std::string>& include_dirs) {
  const auto source = read(path);
  nvrtcProgram program = nullptr;
  nvrtcCreateProgram(&program, source.c_str(), path.c_str(), 0, nullptr, nullptr);
  std::vector<std::string> options{"--gpu-architecture=sm_" + arch, "--std=c++17",
                                   "--extra-device-vectorization"};
  for (const auto& dir : include_dirs) options.push_back("--include-path=" + dir);
  std::vector<const char*> arguments;
  for (const auto& option : options) arguments.push_back(option.c_str());
  const auto result =
      nvrtcCompileProgram(program, static_cast<int>(arguments.size()), arguments.data());

  std::size_t size = 0;
  nvrtcGetProgramLogSize(program, &size);
  if (result != NVRTC_SUCCESS) {
    std::string log(size, '\0');
    nvrtcGetProgramLog(program, log.data());
    std::fprintf(stderr, "%s for sm_%s: %s\n%s\n", path.c_str(), arch.c_str(),
                 nvrtcGetErrorString(result), log.c_str());
    return {};
  }
  nvrtcGetCUBINSize(program, &size);
  std::string code(size, '\0');
  nvrtcGetCUBIN(program, code.data());
  nvrtcDestroyProgram(&program);
  return code;
}

void write_bytes(std::ostream& out, const std::string& name, const std::string& bytes) {
  out << "alignas(16) const unsigned char " << name << "[] = {";
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 32 == 0) out << '\n';
    out << static_cast<int>(static_cast<unsigned char>(bytes[i])) << ',';
  }
  out << "};\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> include_dirs;
  int i = 2;
  for (; i < argc && std::string(argv[i]) != "--"; ++i) include_dirs.push_back(argv[i]);

  std::ostringstream code, table;
  int count = 0;
  for (++i; i < argc; ++i) {
    const std::string job = argv[i];
    const auto colon = job.rfind(':');
    const auto path = job.substr(0, colon);
    std::istringstream archs(job.substr(colon + 1));
    for (std::string arch; std::getline(archs, arch, ',');) {
      const auto bytes = compile(path, arch, include_dirs);
      if (bytes.empty()) return 1;
      const auto name = "image_" + std::to_string(count++);
      write_bytes(code, name, bytes);
      table << "    {\"" << std::filesystem::path(path).stem().string() << "\", \"" << arch
            << "\", " << name << "},\n";
    }
  }
  std::ofstream out(argv[1]);
  out << "#include \"klein/ops/cuda/images.h\"\n\nnamespace klein::ops::cuda {\nnamespace {\n"
      << code.str() << "const KernelImage images[] = {\n" << table.str()
      << "};\n}  // namespace\n\nstd::span<const KernelImage> kernel_images() {\n"
      << "  return images;\n}\n\n}  // namespace klein::ops::cuda\n";
  return out.good() ? 0 : 1;
}
