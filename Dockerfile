# The operator's image: the program, the three libraries it is linked with, certificates of authorities, and nothing else. No shell,
# no package manager. The program brings zone data along.
#
#   docker build -t appcode-operator:0.1.0 .        # or: podman build, buildah bud
#
# Both images below are arguments, so that a mirror or an image made by debootstrap can stand in for them. The program must find
# the libc that it was linked with, so both come from one release of Debian.
ARG BUILDER=rust:1.95-slim-bookworm
ARG DEBIAN=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
# aws-lc, the cryptography of rustls, is C and assembler. Where everything is there already, nothing is asked of a mirror.
RUN command -v cc >/dev/null && command -v cmake >/dev/null || \
    { apt-get update && apt-get install --yes --no-install-recommends cmake gcc libc6-dev make && rm -rf /var/lib/apt/lists/*; }
COPY . .
# The caches hold crates and what was compiled, and are no part of the image. --locked: the crates of Cargo.lock or none.
RUN --mount=type=cache,target=/usr/local/cargo/registry,id=appcode-registry \
    --mount=type=cache,target=/src/target,id=appcode-target \
    cargo build --release --locked --bin appcode-operator && \
    install -D -m 0755 target/release/appcode-operator /out/usr/bin/appcode-operator

# What the program needs to run, as packages of Debian, whose records let scanners of images see what is there.
FROM ${DEBIAN} AS root
RUN dpkg-query --show ca-certificates >/dev/null 2>&1 || \
    { apt-get update && apt-get install --yes --no-install-recommends ca-certificates; }
COPY --from=build /out /out
RUN set -eu; cd /out; \
    ldd usr/bin/appcode-operator | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | sort -u > /libraries; \
    if grep -qxv '/.*' /libraries; then echo 'a library is missing here'; exit 1; fi; \
    while read -r library; do mkdir -p ".${library%/*}"; cp -L "$library" ".$library"; done < /libraries; \
    mkdir -p etc/ssl/certs usr/share/doc var/lib/dpkg/status.d; \
    cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/; \
    for package in ca-certificates libc6 libgcc-s1; do \
      dpkg-query --status "$package" > "var/lib/dpkg/status.d/$package"; \
      cp -rL "/usr/share/doc/$package" usr/share/doc/; \
    done; \
    cp /etc/os-release etc/; \
    echo 'hosts: files dns' > etc/nsswitch.conf; \
    echo 'nonroot:x:65532:65532::/:/sbin/nologin' > etc/passwd; \
    echo 'nonroot:x:65532:' > etc/group

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="appcode-operator" \
      org.opencontainers.image.description="Rotates app codes of Huawei Cloud ModelArts and keeps them in Kubernetes Secrets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=root /out /
# Numeric, since runAsNonRoot cannot look up names.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/appcode-operator"]
