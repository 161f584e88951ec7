//! The TLS in front of the registries, and the log that counts what they send.

use std::path::Path;

use super::authority::Identity;
use super::gate::{self, CDN_HEADER, INTERNAL, REGISTRY_HEADER};
use super::image::Storage;

/// Where the registry for everybody listens, on the loopback of the source's host.
pub(super) const OPEN: u16 = 5001;
/// The one with passwords.
pub(super) const BASIC: u16 = 5002;
/// The ones with tokens: token.test, and the one that looks like Docker Hub.
pub(super) const TOKEN: u16 = 5003;
pub(super) const HUB: u16 = 5004;

/// One process, so that killing it ends it all; everything it writes stays in `dir`.
pub(super) fn configuration(
    dir: &Path,
    storage: &Storage,
    all: &Identity,
    site: &Identity,
) -> String {
    let dir = dir.display();
    let blobs = storage.dir().join("docker/registry/v2");
    let tls = "listen 443 ssl http2; listen [::]:443 ssl http2;";
    let registry = |names: &str, listen: &str, port: u16, more: &str| {
        format!(
            "server {{ {listen} server_name {names}; {more}\n\
             location / {{ proxy_pass http://127.0.0.1:{port}; }} }}\n"
        )
    };
    // Only reading a blob is redirected; everything else goes to the registry itself.
    let redirecting = |names: &str, port: u16, cdn: &str| {
        let more = format!(
            "location ~ ^/v2/.+/blobs/sha256: {{\n\
             set $behind 127.0.0.1:{port};\n\
             if ($request_method ~ ^(GET|HEAD)$) {{ set $behind 127.0.0.1:{gate}; }}\n\
             proxy_set_header {REGISTRY_HEADER} 127.0.0.1:{port};\n\
             proxy_set_header {CDN_HEADER} {cdn};\n\
             {FORWARDED}\n\
             proxy_pass http://$behind; }}",
            gate = gate::PORT,
        );
        registry(names, tls, port, &more)
    };
    let open_listen =
        format!("{tls} listen 80; listen 5000 ssl http2; listen [::]:5000 ssl http2;");
    let servers = [
        registry("registry.test _", &open_listen, OPEN, SEARCH),
        registry("basic.test", tls, BASIC, ""),
        registry("token.test", tls, TOKEN, ""),
        redirecting("redir.test", OPEN, "cdn.test"),
        redirecting(
            "registry-1.docker.io",
            HUB,
            "production.cloudflare.docker.com",
        ),
        registry("auth.test auth.docker.io evil.test", tls, gate::PORT, ""),
        registry(
            "cdn.test production.cloudflare.docker.com",
            tls,
            gate::PORT,
            &format!(
                "location {INTERNAL}/ {{ internal; alias {}/; }}",
                blobs.display()
            ),
        ),
        format!(
            "server {{ {tls} server_name site.test; root {dir}/site;\n\
             location = /ws {{ proxy_http_version 1.1; proxy_set_header Host $host;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
             proxy_pass http://127.0.0.1:{gate}; }}\n\
             ssl_certificate {}; ssl_certificate_key {}; }}\n",
            site.certificate.display(),
            site.key.display(),
            gate = gate::PORT,
        ),
    ];
    format!(
        r#"
daemon off;
master_process off;
user root;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
    map $http_authorization $credential {{ "" 0; default 1; }}
    log_format counted escape=json '{{"host":"$host","path":"$uri","method":"$request_method",'
        '"status":$status,"body_bytes":$body_bytes_sent,"range":"$http_range",'
        '"from":"$remote_addr","credential":"$credential"}}';
    access_log {dir}/access.log counted;
    client_body_temp_path {dir}/temp;
    proxy_temp_path {dir}/temp;
    fastcgi_temp_path {dir}/temp;
    uwsgi_temp_path {dir}/temp;
    scgi_temp_path {dir}/temp;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    server_names_hash_bucket_size 128;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_read_timeout 600s;
    {FORWARDED}
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    {servers}
}}
"#,
        certificate = all.certificate.display(),
        key = all.key.display(),
        servers = servers.concat(),
    )
}

/// What the registries must know to write addresses that the world can use. A `location` that sets a
/// header of its own inherits none of these.
const FORWARDED: &str = "proxy_http_version 1.1;\n\
    proxy_set_header Host $http_host;\n\
    proxy_set_header X-Forwarded-Proto $scheme;\n\
    proxy_set_header Connection \"\";";

/// The search of docker's first protocol, which docker-registry does not have.
const SEARCH: &str = r#"
    location = /v1/_ping { return 200 "true"; }
    location = /v1/search { default_type application/json; return 200
        '{"num_results":1,"query":"one","results":[{"name":"test/one","description":"found in the lab","star_count":0,"is_official":false,"is_automated":false}]}'; }
"#;
