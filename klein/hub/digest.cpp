#include "klein/hub/digest.h"

#include <array>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "klein/core/error.h"

namespace klein::hub {
namespace {

constexpr std::size_t kSha256Digits = 64;

void expect_success(int result) {
  if (result != 1) throw Error(ErrorKind::internal, "the checksum library refused to work");
}

}  // namespace

struct Digest::Impl {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  &EVP_MD_CTX_free};
  const EVP_MD* method = nullptr;
  std::string prefix;
};

Digest::Digest(const std::string& expected, std::uint64_t size) : impl_(std::make_unique<Impl>()) {
  const bool is_sha256 = expected.size() == kSha256Digits;
  impl_->method = is_sha256 ? EVP_sha256() : EVP_sha1();
  if (!is_sha256) {
    impl_->prefix = fmt::format("blob {}", size);
    impl_->prefix += '\0';
  }
  restart();
}

Digest::~Digest() = default;

void Digest::restart() {
  expect_success(EVP_DigestInit_ex(impl_->context.get(), impl_->method, nullptr));
  add(std::as_bytes(std::span(impl_->prefix)));
}

void Digest::add(std::span<const std::byte> bytes) {
  expect_success(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()));
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
  unsigned length = 0;
  expect_success(EVP_DigestFinal_ex(impl_->context.get(), value.data(), &length));
  std::string digits;
  for (unsigned i = 0; i < length; ++i) digits += fmt::format("{:02x}", value[i]);
  return digits;
}

}  // namespace klein::hub
