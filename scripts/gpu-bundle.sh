#!/usr/bin/env bash
# Packs the GPU's tests and benchmarks for a machine that has a GPU, Python and torch, but neither
# compilers nor a network: build/gpu-bundle.tar.xz.
#   usage: scripts/gpu-bundle.sh [PYTHON]    PYTHON: one of the version that the machine has
#   there: tar xJf gpu-bundle.tar.xz; gpu-bundle/run         (says what it can run)
# vLLM is not in it: have it in PYTHONPATH.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
bundle=build/gpu-bundle
rm -rf "$bundle" "$bundle.tar.xz"
mkdir -p "$bundle"/{bin,lib,site,tests}

"$python" -m venv build/venv-bundle
build/venv-bundle/bin/pip --quiet --disable-pip-version-check install \
  --target "$bundle/site" . pytest pytest-timeout prometheus_client
cp -r tests/{gpu,python,vllm} "$bundle/tests/"
cp pyproject.toml "$bundle/"  # pytest's settings
cp -r bench "$bundle/"
for program in penstock penstock-probe tests/gpu_cuda_device_test bench/device_bench; do
  cp "build/release/$program" "$bundle/bin/"
  # What the distribution has there may be of another version; the C library is always newer.
  ldd "build/release/$program" | awk '/=> \// && !/lib(c|m|dl|rt|pthread)\.so/ { print $3 }' |
    xargs -r cp -nLt "$bundle/lib/"
done
cat >"$bundle/run" <<'RUN'
#!/usr/bin/env bash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH=$here/site:${PYTHONPATH:-}
with_libraries() { LD_LIBRARY_PATH=$here/lib "$@"; }
what=${1:-}; shift || true
case $what in
  device) with_libraries "$here/bin/gpu_cuda_device_test" "$@" ;;
  memcheck|racecheck)
    with_libraries compute-sanitizer --tool "$what" --report-api-errors no "$here/bin/gpu_cuda_device_test" \
      --gtest_brief=1 "$@" ;;
  tests) cd "$here" && python3 -m pytest -q -p no:cacheprovider "${@:-tests/gpu}" ;;
  copies) with_libraries "$here/bin/device_bench" "$@" ;;
  bench) python3 "$here/bench/gpu.py" "$@" ;;
  vllm) python3 "$here/bench/vllm_gpu.py" "$@" ;;
  penstock) with_libraries "$here/bin/penstock" "$@" ;;
  *) echo "usage: run device|memcheck|racecheck|tests|copies|bench|vllm|penstock [ARGUMENT ...]" >&2; exit 2 ;;
esac
RUN
chmod +x "$bundle/run"
find "$bundle" -name __pycache__ -prune -exec rm -rf {} +
tar cf - -C build gpu-bundle | xz -T0 -6 >"$bundle.tar.xz"
ls -l "$bundle.tar.xz"
