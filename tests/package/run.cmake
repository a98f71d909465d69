# Installs BUILD_DIR into a fresh prefix under WORK_DIR, then configures, builds and runs two projects
# against it: the consumer beside this file, and the example of README.md as it stands there.
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(build source build)
  run("${CMAKE_COMMAND}" -S "${source}" -B "${build}" -G "${GENERATOR}"
      -D CMAKE_BUILD_TYPE=Release -D "CMAKE_CXX_COMPILER=${CXX_COMPILER}"
      -D "CMAKE_PREFIX_PATH=${WORK_DIR}/prefix")
  run("${CMAKE_COMMAND}" --build "${build}")
endfunction()

# Writes the first block of a language in README.md to a file.
function(extract language file)
  if(NOT readme MATCHES "```${language}\n([^`]*)```")
    message(FATAL_ERROR "README.md: there is no block of ${language}")
  endif()
  file(WRITE "${file}" "${CMAKE_MATCH_1}")
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${WORK_DIR}/prefix")
build("${SOURCE_DIR}" "${WORK_DIR}/build")
run("${WORK_DIR}/build/consumer")

file(READ "${SOURCE_DIR}/../../README.md" readme)
extract(cpp "${WORK_DIR}/readme/main.cpp")
extract(cmake "${WORK_DIR}/readme/CMakeLists.txt")
build("${WORK_DIR}/readme" "${WORK_DIR}/readme/build")
execute_process(COMMAND "${WORK_DIR}/readme/build/example" OUTPUT_VARIABLE printed
                WORKING_DIRECTORY "${WORK_DIR}/readme" ECHO_OUTPUT_VARIABLE
                COMMAND_ERROR_IS_FATAL ANY)

# What README.md says of the output.
string(REGEX REPLACE "[ \n]+" " " text "${readme}")
if(NOT text MATCHES "first moment ([0-9]+) bytes of cells and ([0-9]+) of what it keeps with rows")
  message(FATAL_ERROR "README.md: the bytes of the embedding's first moment are no longer given")
endif()
foreach(line "${CMAKE_MATCH_1} bytes  embedding.weight.first.cells"
             "${CMAKE_MATCH_2} bytes  embedding.weight.first.row_state")
  if(NOT printed MATCHES " ${line}\n")
    message(FATAL_ERROR "README.md gives '${line}', the example prints otherwise")
  endif()
endforeach()
if(NOT printed MATCHES "step 100: loss ([0-9.]+).*step 500: loss ([0-9.]+).*loaded: loss ([0-9.]+)")
  message(FATAL_ERROR "the example of README.md prints no losses")
elseif(NOT CMAKE_MATCH_2 LESS CMAKE_MATCH_1 OR NOT CMAKE_MATCH_3 LESS CMAKE_MATCH_1)
  message(FATAL_ERROR "README.md says that the loss falls")
endif()
