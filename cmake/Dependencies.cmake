# Every third-party library of `klein` in one place. This file is installed beside kleinConfig.cmake,
# so that a program that links the installed library finds the same list.
#
#   library        least version   Debian 12 package           used by
#   MLX            0.32.4, exactly (Python wheel, see Mlx.cmake) tensors, all of the model
#   oneDNN         2.5             libdnnl-dev                 klein/ops/cpu: linear, convolution
#   OpenBLAS       0.3             libopenblas-dev             MLX's own matmul on the CPU
#   OpenMP         4.5             libgomp (g++)               klein/ops/cpu: loops over cores
#   ICU            67              libicu-dev                  klein/tokenizer: NFC, Unicode classes
#   libpng         1.6             libpng-dev                  klein/io/image
#   libjpeg        turbo 2.1       libjpeg-dev                 klein/io/image
#   libwebp        1.2             libwebp-dev                 klein/io/image
#   libexif        0.6.24          libexif-dev                 klein/io/orientation
#   zlib           1.2             zlib1g-dev                  klein/io: checksums, compressed text
#   fmt            8.1             libfmt-dev                  messages
#   nlohmann-json  3.10            nlohmann-json3-dev          klein/io/json
#   libcurl        7.68            libcurl4-openssl-dev        klein/hub: HTTP
#   OpenSSL        1.1             libssl-dev                  klein/hub: SHA-256 of what was downloaded
# The program and the tests alone add CLI11 2.1 and doctest 2.4 (CMakeLists.txt, tests/).

find_package(ICU 67 REQUIRED COMPONENTS uc i18n)
find_package(PNG 1.6 REQUIRED)
find_package(JPEG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(CURL 7.68 REQUIRED)
find_package(OpenSSL 1.1 REQUIRED COMPONENTS Crypto)
find_package(Threads REQUIRED)

# libwebp and libexif have no CMake packages in Debian.
find_path(WEBP_INCLUDE_DIR webp/encode.h)
find_library(WEBP_LIBRARY webp)
find_library(WEBP_DEMUX_LIBRARY webpdemux)
if(NOT WEBP_INCLUDE_DIR OR NOT WEBP_LIBRARY OR NOT WEBP_DEMUX_LIBRARY)
  message(FATAL_ERROR "expected libwebp, found none\nhint: apt-get install libwebp-dev")
endif()
if(NOT TARGET klein_webp)
  add_library(klein_webp UNKNOWN IMPORTED)
  set_target_properties(klein_webp PROPERTIES
    IMPORTED_LOCATION ${WEBP_DEMUX_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${WEBP_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES ${WEBP_LIBRARY})
endif()
find_path(EXIF_INCLUDE_DIR libexif/exif-data.h)
find_library(EXIF_LIBRARY exif)
if(NOT EXIF_INCLUDE_DIR OR NOT EXIF_LIBRARY)
  message(FATAL_ERROR "expected libexif, found none\nhint: apt-get install libexif-dev")
endif()
if(NOT TARGET klein_exif)
  add_library(klein_exif UNKNOWN IMPORTED)
  set_target_properties(klein_exif PROPERTIES
    IMPORTED_LOCATION ${EXIF_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${EXIF_INCLUDE_DIR})
endif()

# oneDNN and OpenMP make the x86 and ARM kernels. dnnl's own package asks for OpenCL: look for the files.
if(NOT DEFINED KLEIN_CPU_KERNELS_FOUND)
  find_path(DNNL_INCLUDE_DIR dnnl.hpp)
  find_library(DNNL_LIBRARY dnnl)
  find_package(OpenMP COMPONENTS CXX)
  if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY AND OpenMP_CXX_FOUND AND NOT APPLE)
    set(KLEIN_CPU_KERNELS_FOUND ON)
  else()
    set(KLEIN_CPU_KERNELS_FOUND OFF)
  endif()
endif()
if(KLEIN_CPU_KERNELS_FOUND AND NOT TARGET klein_dnnl)
  add_library(klein_dnnl UNKNOWN IMPORTED)
  set_target_properties(klein_dnnl PROPERTIES
    IMPORTED_LOCATION ${DNNL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})
endif()

# The Linux wheel carries the reference BLAS. OpenBLAS stands before libmlx in the link order, so its
# cblas_* come first in symbol order and MLX's float32 matmul runs 30 to 80 times faster. Nothing of
# ours calls it, hence --no-as-needed; one string, so that CMake can neither reorder nor merge it.
if(NOT TARGET klein_blas)
  add_library(klein_blas INTERFACE IMPORTED)
  if(NOT APPLE)
    find_library(OPENBLAS_LIBRARY openblas)
    if(NOT OPENBLAS_LIBRARY)
      message(FATAL_ERROR "expected OpenBLAS, found none\nhint: apt-get install libopenblas-dev")
    endif()
    target_link_libraries(klein_blas INTERFACE
      "-Wl,--push-state,--no-as-needed,${OPENBLAS_LIBRARY},${MLX_LIBRARY},--pop-state")
  endif()
endif()
