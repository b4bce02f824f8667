#!/bin/sh
# Generates and checks everything that comes from protos/.
#
#   tools/proto.sh generate   writes the generated code into nofx_grpc/v1/ and buf/
#   tools/proto.sh check      fails if that code is not what the protos give, and on lint, format and breaking changes
#   tools/proto.sh release    makes the present protos the baseline that breaking changes are measured against
#
# The environment is .venv, or the directory that VENV names.
set -eu
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
baseline=protos/baseline.binpb

# generate DIRECTORY: writes the generated code below DIRECTORY.
generate() {
    # Only messages for validate.proto, which has no services. google/api is not generated: googleapis-common-protos
    # ships it.
    "$bin/python" -m grpc_tools.protoc -I protos --plugin="protoc-gen-mypy=$bin/protoc-gen-mypy" \
        --python_out="$1" --mypy_out="quiet:$1" buf/validate/validate.proto
    "$bin/python" -m grpc_tools.protoc -I protos \
        --plugin="protoc-gen-mypy=$bin/protoc-gen-mypy" --plugin="protoc-gen-mypy_grpc=$bin/protoc-gen-mypy_grpc" \
        --python_out="$1" --mypy_out="quiet:$1" --grpc_python_out="$1" --mypy_grpc_out="quiet:$1" \
        protos/nofx_grpc/v1/*.proto
}

# generated DIRECTORY: lists the generated files below DIRECTORY.
generated() {
    (cd "$1" && mkdir -p buf nofx_grpc/v1 && find buf nofx_grpc/v1 -name '*_pb2*.py' -o -name '*_pb2*.pyi' | sort)
}

check() {
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    generate "$fresh"
    generated . >"$fresh/here"
    generated "$fresh" >"$fresh/wanted"
    diff -u "$fresh/here" "$fresh/wanted" || fail "files are missing or left over: run tools/proto.sh generate"
    while read -r file; do
        diff -u "$file" "$fresh/$file" || fail "$file is not what the protos give: run tools/proto.sh generate"
    done <"$fresh/wanted"
    "$bin/buf" lint
    "$bin/buf" format --diff --exit-code --path protos/nofx_grpc
    "$bin/buf" breaking --against "$baseline"
}

fail() {
    echo "proto.sh: $1" >&2
    exit 1
}

case "${1:-}" in
generate) generated . | xargs -r rm -f && generate . ;;
check) check ;;
release) "$bin/buf" build --exclude-source-info -o "$baseline" ;;
*) fail "usage: tools/proto.sh generate | check | release" ;;
esac
