# Adds the GPU kernels to target `klein`: compiled at build time by NVRTC, which MLX's wheel brings.
#   klein/ops/cuda/kernels/*.cu   for every GPU since Ampere, but those named hopper_* for sm_90a
file(GLOB cuda_home ${MLX_ROOT}/../nvidia/cu13)
set(cuda_lib ${cuda_home}/lib)
set(cuda_include ${cuda_home}/include)

add_executable(compile_cuda cmake/compile_cuda.cpp)
target_include_directories(compile_cuda SYSTEM PRIVATE ${cuda_include})
target_link_libraries(compile_cuda PRIVATE ${cuda_lib}/libnvrtc.so.13)
target_link_options(compile_cuda PRIVATE -Wl,-rpath-link,${cuda_lib})
set_target_properties(compile_cuda PROPERTIES BUILD_RPATH ${cuda_lib})

file(GLOB kernel_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/klein/ops/cuda/kernels/*.cu)
file(GLOB kernel_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/klein/ops/cuda/kernels/*.cuh
  ${PROJECT_SOURCE_DIR}/klein/ops/cuda/kernels/*.h)
set(jobs)
foreach(file IN LISTS kernel_files)
  if(file MATCHES "/hopper_")
    list(APPEND jobs ${file}:90a)
  else()
    list(APPEND jobs ${file}:80,90a,100,120)
  endif()
endforeach()
set(images ${PROJECT_BINARY_DIR}/cuda_images.cpp)
add_custom_command(OUTPUT ${images}
  COMMAND compile_cuda ${images} ${cuda_include} ${PROJECT_SOURCE_DIR} -- ${jobs}
  DEPENDS compile_cuda ${kernel_files} ${kernel_headers}
  COMMENT "Compiling the GPU kernels")

target_sources(klein PRIVATE ${images})
target_include_directories(klein SYSTEM PRIVATE ${cuda_include} ${cuda_include}/cccl)
target_compile_definitions(klein PUBLIC KLEIN_CUDA_KERNELS=1)
target_link_libraries(klein PRIVATE
  ${cuda_lib}/libcublasLt.so.13 ${cuda_lib}/libcudart_static.a rt Threads::Threads ${CMAKE_DL_LIBS})
set_source_files_properties(${images} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
