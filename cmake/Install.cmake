# `cmake --install`: library, public headers, program, demo models, and the CMake package.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/klein)
set(models_dir ${CMAKE_INSTALL_DATADIR}/klein/models)

install(TARGETS klein EXPORT kleinTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT kleinTargets NAMESPACE klein:: DESTINATION ${package_dir})

# libmlx comes along, so that the checkout and its .venv may go. The CUDA wheel leans on two gigabytes
# of NVIDIA's wheels beside it: there the installed program keeps using the environment it was built with.
if(KLEIN_MLX_CUDA)
  set(installed_mlx ${MLX_LIBRARY})
else()
  set(mlx_dir ${CMAKE_INSTALL_LIBDIR}/klein)
  set(installed_mlx ${mlx_dir}/mlx/lib/${CMAKE_SHARED_LIBRARY_PREFIX}mlx${CMAKE_SHARED_LIBRARY_SUFFIX})
  install(DIRECTORY ${MLX_ROOT}/lib DESTINATION ${mlx_dir}/mlx)
  file(GLOB bundled ${MLX_ROOT}/../mlx_cpu.libs)  # BLAS and Fortran, found by libmlx at ../../mlx_cpu.libs
  install(DIRECTORY ${bundled} DESTINATION ${mlx_dir})
  set(klein_install_rpath "$ORIGIN/../${mlx_dir}/mlx/lib")
endif()

# The public headers, and only they: each compiles without MLX (tests/public_headers.cmake).
foreach(pattern IN LISTS KLEIN_PUBLIC_HEADERS)
  file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${pattern})
  foreach(header IN LISTS headers)
    get_filename_component(folder ${header} DIRECTORY)
    install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/${folder})
  endforeach()
endforeach()

if(TARGET klein_program)
  set_target_properties(klein_program PROPERTIES INSTALL_RPATH "${klein_install_rpath}")
  install(TARGETS klein_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
file(GLOB demo_models CONFIGURE_DEPENDS models/demo*)
install(DIRECTORY ${demo_models} DESTINATION ${models_dir})
install(FILES tools/compare_diffusers.py DESTINATION ${CMAKE_INSTALL_DATADIR}/klein/tools)
install(FILES LICENSE THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(cmake/kleinConfig.cmake.in ${PROJECT_BINARY_DIR}/kleinConfig.cmake
  INSTALL_DESTINATION ${package_dir} PATH_VARS installed_mlx models_dir)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kleinConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kleinConfig.cmake ${PROJECT_BINARY_DIR}/kleinConfigVersion.cmake
  cmake/Dependencies.cmake DESTINATION ${package_dir})
