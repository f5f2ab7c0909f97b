# Links every entry of FROM into TO, so that the build tree holds an importable package.
file(GLOB entries ${FROM}/*)
foreach(entry ${entries})
  get_filename_component(name ${entry} NAME)
  if(NOT EXISTS ${TO}/${name})
    file(CREATE_LINK ${entry} ${TO}/${name} SYMBOLIC)
  endif()
endforeach()
