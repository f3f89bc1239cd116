# Defines the imported target `mlx` from the Python wheel: headers, libmlx, and the run path to it.
# Searched in this order: -DMLX_ROOT=DIR, $MLX_ROOT, then the .venv* folders that tools/setup.sh makes.
#
# The wheel brings a CMake package, but the CUDA wheel's one insists on an installed CUDA toolkit and
# cuDNN. Neither is needed to compile or to link, so the target is made from the folder itself.
set(KLEIN_MLX_VERSION 0.32.4)

if(NOT MLX_ROOT AND DEFINED ENV{MLX_ROOT})
  set(MLX_ROOT $ENV{MLX_ROOT} CACHE PATH "The folder `mlx` of an unpacked wheel")
endif()
if(NOT MLX_ROOT AND KLEIN_VENVS)
  foreach(venv IN LISTS KLEIN_VENVS)
    file(GLOB candidates ${venv}/lib/python3*/site-packages/mlx)
    if(candidates AND NOT MLX_ROOT)
      list(GET candidates 0 MLX_ROOT)
    endif()
  endforeach()
endif()
if(NOT MLX_ROOT OR NOT EXISTS ${MLX_ROOT}/include/mlx/mlx.h)
  message(FATAL_ERROR
    "expected MLX's headers in a wheel's folder, found none at '${MLX_ROOT}'\n"
    "hint: run tools/setup.sh, or give -DMLX_ROOT=DIR with DIR/include/mlx/mlx.h")
endif()

file(STRINGS ${MLX_ROOT}/include/mlx/version.h mlx_version_lines REGEX "define MLX_VERSION_(MAJOR|MINOR|PATCH)")
string(REGEX REPLACE "[^0-9;]" "" mlx_version "${mlx_version_lines}")
string(REPLACE ";" "." mlx_version "${mlx_version}")
if(NOT mlx_version VERSION_EQUAL KLEIN_MLX_VERSION)
  message(FATAL_ERROR
    "expected MLX ${KLEIN_MLX_VERSION}, found ${mlx_version} in ${MLX_ROOT}\n"
    "hint: pip install -r requirements.txt")
endif()

find_library(MLX_LIBRARY NAMES mlx HINTS ${MLX_ROOT}/lib NO_DEFAULT_PATH NO_CACHE REQUIRED)
# The CPU wheel keeps nothing beside libmlx that names a GPU; the CUDA wheel keeps CCCL's headers.
if(EXISTS ${MLX_ROOT}/include/cccl)
  set(KLEIN_MLX_CUDA ON)
else()
  set(KLEIN_MLX_CUDA OFF)
endif()

if(NOT TARGET mlx)
  add_library(mlx SHARED IMPORTED)
  set_target_properties(mlx PROPERTIES
    IMPORTED_LOCATION ${MLX_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${MLX_ROOT}/include
    INTERFACE_COMPILE_FEATURES cxx_std_20)
  if(KLEIN_MLX_CUDA)
    # libmlx needs libcuda of a driver, cuBLAS and cuDNN when it runs, none of them when it is linked.
    set_property(TARGET mlx PROPERTY INTERFACE_LINK_OPTIONS -Wl,--allow-shlib-undefined)
  endif()
  if(APPLE)
    set_property(TARGET mlx PROPERTY INTERFACE_COMPILE_DEFINITIONS _METAL_ ACCELERATE_NEW_LAPACK)
    set_property(TARGET mlx APPEND PROPERTY INTERFACE_INCLUDE_DIRECTORIES ${MLX_ROOT}/include/metal_cpp)
  endif()
endif()
