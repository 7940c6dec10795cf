# small for x86-64-v3-int8: find_package(small CONFIG REQUIRED PATHS the bundle's folder), then
#     target_link_libraries(firmware PRIVATE small::small)
if(NOT TARGET small::small)
  add_library(small::small STATIC IMPORTED GLOBAL)
  get_filename_component(_bundle ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
  set_target_properties(small::small PROPERTIES
    IMPORTED_LOCATION ${_bundle}/lib/libsmall.a
    INTERFACE_INCLUDE_DIRECTORIES ${_bundle}/include)
  find_package(Threads REQUIRED)
  set_property(TARGET small::small PROPERTY INTERFACE_LINK_LIBRARIES Threads::Threads m)
  unset(_bundle)
endif()
