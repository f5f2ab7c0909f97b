# penstock_layer(name DEPENDS layer... LIBRARIES target...): src/<name> as one static library.
function(penstock_layer name)
  cmake_parse_arguments(layer "" "" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  if(sources)
    add_library(penstock_${name} STATIC ${sources})
    if(PENSTOCK_SANITIZE)  # headers once for eight; the plain build compiles each alone
      set_target_properties(penstock_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
      target_compile_options(penstock_${name} PRIVATE
        $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)  # of nameless types
    endif()
    set(scope PUBLIC)
  else()
    add_library(penstock_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(penstock_${name} ${scope} ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM layer_DEPENDS PREPEND penstock_)
  target_link_libraries(penstock_${name} ${scope} ${layer_DEPENDS} ${layer_LIBRARIES})
endfunction()
