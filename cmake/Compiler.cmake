# Warnings, sanitizers, ccache and the precompiled header, the same for every target.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without this sloppiness ccache gives up on every file that has a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE_PROGRAM})
endif()

if(KLEIN_TIDY)
  find_program(CLANG_TIDY_PROGRAM clang-tidy REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${CLANG_TIDY_PROGRAM} --quiet)
  set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)  # clang-tidy cannot read the headers that g++ precompiled
endif()

function(klein_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # With -O3 these see overflows inside std::string that are not there (GCC bug 105651).
    target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
  endif()
  if(KLEIN_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(KLEIN_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${KLEIN_SANITIZE} -fno-omit-frame-pointer
      -fno-sanitize=vptr -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${KLEIN_SANITIZE})
  endif()
endfunction()

# mlx/mlx.h costs 1.7 s a file; precompiled 0.5 s. Folders without MLX do not get it, so that they
# cannot come to depend on it unseen.
function(klein_precompile_mlx target)
  target_precompile_headers(${target} PRIVATE <mlx/mlx.h>)
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    if(source MATCHES "/klein/(core|io|hub|tokenizer|quant)/")
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endfunction()

# For targets that wait for others rather than compute: half the time to build.
function(klein_build_fast target level)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(${target} PRIVATE ${level})
  endif()
endfunction()
