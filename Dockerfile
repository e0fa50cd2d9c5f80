# syntax=docker/dockerfile:1
# The operator's image: one binary, no shell, no package, an unprivileged user.
#
#   docker build -t dms-operator .

FROM rust:1.95-alpine AS build
# What aws-lc needs to be compiled.
RUN apk add --no-cache build-base cmake perl linux-headers
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# Tests and their tools stay outside; Cargo only wants to see that the target exists.
RUN mkdir -p tests/it && echo 'fn main() {}' > tests/it/main.rs
ENV CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_PROFILE_RELEASE_STRIP=symbols
# musl: the binary runs without any library beside it.
RUN cargo build --locked --release --bin dms-operator && cp target/release/dms-operator /dms-operator
RUN mkdir /empty

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 --chmod=1777 /empty /tmp
COPY --from=build /dms-operator /dms-operator
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/dms-operator"]
CMD ["--help"]
