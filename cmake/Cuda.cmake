# CUDA, where there is a compiler for it. The runtime is linked statically and loads the driver when it
# is first used, so that one binary serves machines with and without a GPU.
if(PENSTOCK_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(PENSTOCK_CUDA ON)
  else()
    set(PENSTOCK_CUDA OFF)
    message(STATUS "no CUDA compiler: built without GPU support")
  endif()
endif()
if(PENSTOCK_CUDA)
  # Machine code for A100, H100 and H200, B200; PTX for what comes after.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_STANDARD 20)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

# penstock_add_cuda(target folder): adds the folder's *.cpp and *.cu.
function(penstock_add_cuda target folder)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cpp
       ${PROJECT_SOURCE_DIR}/${folder}/*.cu)
  target_sources(${target} PRIVATE ${sources})
  target_compile_definitions(${target} PRIVATE PENSTOCK_CUDA)
  target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
endfunction()
