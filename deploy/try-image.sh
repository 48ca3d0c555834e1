#!/usr/bin/env bash
# Builds the Dockerfile where no registry of images can be reached, and runs what comes out. Debian, as root, with buildah,
# runc, debootstrap and a Rust toolchain of this machine; its own mirror and crates are used, and no image is pulled.
#
#   deploy/try-image.sh [FOLDER]      # FOLDER keeps the two base systems (1 GiB), for the next time
#
# What differs from `docker build .`: both base images are made here, and the toolchain and the crates are mounted into the
# build instead of being in its image.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(realpath -m "${1:-/var/tmp/appcode-operator-image}")
image=localhost/appcode-operator:try
mkdir -p "$work"

# Makes an image of a folder; the rest are settings of it.
import() {
  local name=$1 root=$2 container
  shift 2
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$root" / >/dev/null
  buildah config "$@" "$container"
  buildah commit --quiet --rm "$container" "$name" >/dev/null
}

if ! [ -e "$work/builder/usr/bin/cmake" ]; then
  debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base"
  cp -a "$work/base" "$work/builder"
  chroot "$work/builder" apt-get install --yes --no-install-recommends cmake gcc libc6-dev make
fi
import localhost/debian:try "$work/base" --cmd /bin/sh
import localhost/rust:try "$work/builder" --env PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --env CARGO_HOME=/opt/cargo --env CARGO_NET_OFFLINE=true

# The crates of Cargo.lock, in a folder that the build may write to.
cargo fetch --locked
mkdir -p "$work/cargo/registry"
cp -a "${CARGO_HOME:-$HOME/.cargo}/registry/index" "${CARGO_HOME:-$HOME/.cargo}/registry/cache" "$work/cargo/registry/"
buildah build --isolation chroot --pull-never --tag "$image" \
  --build-arg BUILDER=localhost/rust:try --build-arg DEBIAN=localhost/debian:try \
  --volume "$(rustc --print sysroot):/opt/rust:ro" --volume "$work/cargo:/opt/cargo" .

container=$(buildah from --pull-never "$image")
trap 'buildah rm "$container" >/dev/null' EXIT
root=$(buildah mount "$container")
buildah inspect --type image --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}}' "$image"
du -sh --apparent-size "$root"
stat --format='%s bytes: %n' "$root/usr/bin/appcode-operator"

# As the pod is: no root, no capability, nothing to write to, 128 MiB.
bundle=$(mktemp -d)
for argument in --version --help; do
  python3 - "$bundle/config.json" "$root" "$argument" <<'PYTHON'
import json, sys
target, root, argument = sys.argv[1:]
user = {"uid": 65532, "gid": 65532}
mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
process = {"user": user, "args": ["/usr/bin/appcode-operator", argument], "cwd": "/", "noNewPrivileges": True, "capabilities": {}}
spaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]
json.dump({"ociVersion": "1.0.2", "process": process, "root": {"path": root, "readonly": True}, "mounts": mounts,
           "linux": {"namespaces": spaces, "resources": {"memory": {"limit": 128 << 20}}}}, open(target, "w"))
PYTHON
  runc run --bundle "$bundle" "appcode-operator-try-$$"
done
rm -r "$bundle"
