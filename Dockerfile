# The collector's image: one static binary and the CA certificates of the build image, nothing else.
#
#   docker build --tag exchange-reports-collector .
#
# The last stage is the collector; `--target demo` gives the demo, with the same binary in it. Both base images can be replaced:
# any Debian-like image with cargo (of the version in Cargo.toml, or newer), gcc and libc6-dev can build, and any image
# at all can be the base at run time, since nothing of it is used.
#
# It is of the platform that it is built on. TARGET=aarch64-unknown-linux-gnu, or x86_64-unknown-linux-gnu, compiles for that one; what
# `packages/build image arm64` makes of it also says so to Docker.
ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=scratch

# The dependencies, in a layer that only Cargo.toml and Cargo.lock can invalidate.
FROM ${BUILD_IMAGE} AS dependencies
RUN test -s /etc/ssl/certs/ca-certificates.crt \
    || { apt-get update && apt-get install --yes --no-install-recommends ca-certificates; }
# For another architecture: its standard library, where rustup can add it, and gcc for it.
ARG TARGET=host-tuple
RUN case $TARGET in \
        host-tuple|$(uname -m)-unknown-linux-gnu) packages= ;; \
        aarch64-unknown-linux-gnu) packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
        x86_64-unknown-linux-gnu) packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
        *) echo "TARGET is aarch64-unknown-linux-gnu or x86_64-unknown-linux-gnu" >&2; exit 1 ;; \
    esac; \
    if test -n "$packages"; then \
        if command -v rustup; then rustup target add "$TARGET"; fi \
        && if ! command -v "${TARGET%%-*}-linux-gnu-gcc"; then \
            apt-get update && apt-get install --yes --no-install-recommends $packages; \
        fi; \
    fi
# A named target keeps the flag away from build scripts and procedural macros, which cannot be static.
ENV CARGO_BUILD_TARGET=${TARGET} RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY tests/bench/Cargo.toml tests/bench/
COPY tests/testkit/Cargo.toml tests/testkit/
RUN mkdir -p src tests/testkit/src \
    && echo 'fn main() {}' > src/main.rs && touch src/lib.rs tests/testkit/src/lib.rs \
    && cargo build --locked --release --package exchange-reports-collector

FROM dependencies AS build
ARG REVISION=unknown
ENV COLLECTOR_REVISION=${REVISION}
COPY src src
# What was just copied may be older than the empty crate built above: cargo goes by the time of change.
RUN touch src/main.rs src/lib.rs \
    && cargo build --locked --release --package exchange-reports-collector \
    && mkdir -p /image/usr/local/bin \
    && cp target/*/release/exchange-reports-collector /image/usr/local/bin/ \
    && mkdir -p /image/etc/ssl/certs /image/devo-collector/certs /image/devo-collector/config \
        /image/devo-collector/credentials /image/devo-collector/state \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    # Whoever owns the state folder is whom the collector runs as; a volume that is new takes its owner from here.
    && chown 65532:65532 /image/devo-collector/state

FROM build AS demo-build
COPY tests/testkit tests/testkit
RUN touch tests/testkit/src/lib.rs \
    && cargo build --locked --release --package testkit --bin demo \
    && cp target/*/release/demo /image/usr/local/bin/ \
    && mkdir --mode 1777 /image/tmp

FROM scratch AS demo
COPY --from=demo-build /image /
USER 65532:65532
# As Ctrl-C does: the demo delivers the rest and gives its account.
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/demo", "--collector", "/usr/local/bin/exchange-reports-collector"]

FROM ${RUNTIME_IMAGE} AS collector
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="exchange-reports-collector" \
    org.opencontainers.image.description="Collects the Microsoft 365 Exchange reports and delivers them to Devo, every record confirmed" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
WORKDIR /devo-collector
VOLUME ["/devo-collector/certs", "/devo-collector/config", "/devo-collector/credentials", "/devo-collector/state"]
# No USER: started as root the collector drops to the owner of state/, so that the mounted folders work whoever owns them.
# By progress: a collector that is up and collects nothing is not healthy.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/exchange-reports-collector", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/exchange-reports-collector"]
