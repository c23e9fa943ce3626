package io.github.panamallama.hub;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Collectors;

/** The part of the hub that a pull uses, on a socket of this machine, so that connections can be broken at any byte. */
final class FakeHub implements AutoCloseable {
    /** Path with query, and headers in lower case. */
    record Request(String path, Map<String, String> headers) {
        String header(String name) {
            return headers.get(name.toLowerCase(Locale.ROOT));
        }
    }

    interface Handler {
        void answer(Request request, OutputStream out) throws Exception;
    }

    final List<Request> requests = new CopyOnWriteArrayList<>();
    private final Map<String, Handler> handlers = new ConcurrentHashMap<>();
    private final List<Socket> open = new CopyOnWriteArrayList<>();
    private final ServerSocket server;

    FakeHub() throws IOException {
        server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        Thread.ofVirtual().start(this::accept);
    }

    URI endpoint() {
        return URI.create("http://127.0.0.1:" + server.getLocalPort());
    }

    private void accept() {
        try {
            while (true) {
                var socket = server.accept();
                open.add(socket);
                Thread.ofVirtual().start(() -> serve(socket));
            }
        } catch (IOException e) {
            // closed
        }
    }

    private void serve(Socket socket) {
        try (socket; var out = socket.getOutputStream()) {
            var lines = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.ISO_8859_1));
            var first = lines.readLine();
            var headers = new TreeMap<String, String>();
            for (var line = lines.readLine(); line != null && !line.isEmpty(); line = lines.readLine()) {
                headers.put(line.substring(0, line.indexOf(':')).toLowerCase(Locale.ROOT), line.substring(line.indexOf(':') + 1).strip());
            }
            if (first != null) {
                var request = new Request(first.split(" ")[1], headers);
                requests.add(request);
                handlers.getOrDefault(request.path, (asked, to) -> head(to, 404, Map.of("Content-Length", "0"))).answer(request, out);
            }
        } catch (Exception e) {
            // the client hung up, or a handler wants the connection to break
        }
    }

    FakeHub on(String path, Handler handler) {
        handlers.put(path, handler);
        return this;
    }

    /** Lists these files for the repository and serves them, with ranges and hashes as the hub has them. */
    FakeHub repository(String name, Map<String, byte[]> files) {
        on(tree(name), (request, out) -> body(out, 200, Map.of(), listing(files)));
        files.forEach((path, content) -> on(file(name, path), (request, out) -> ranges(request, out, content)));
        return this;
    }

    static String tree(String repository) {
        return "/api/models/" + repository + "/tree/main?recursive=true";
    }

    static String file(String repository, String path) {
        return "/" + repository + "/resolve/main/" + path;
    }

    static String listing(Map<String, byte[]> files) {
        return files.entrySet().stream().map(file -> entry(file.getKey(), file.getValue().length, sha256(file.getValue())))
                .collect(Collectors.joining(",", "[", "]"));
    }

    static String entry(String path, long size, String sha256) {
        return """
                {"type": "file", "oid": "%s", "size": %d, "path": "%s", "lfs": {"oid": "%s", "size": %d, "pointerSize": 135}}"""
                .formatted("0".repeat(40), size, path, sha256, size);
    }

    static String sha256(byte[] content) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    static void head(OutputStream out, int status, Map<String, String> headers) throws IOException {
        var text = new StringBuilder("HTTP/1.1 " + status + " Whatever\r\nConnection: close\r\n");
        headers.forEach((name, value) -> text.append(name).append(": ").append(value).append("\r\n"));
        out.write(text.append("\r\n").toString().getBytes(StandardCharsets.ISO_8859_1));
        out.flush();
    }

    static void body(OutputStream out, int status, Map<String, String> headers, String text) throws IOException {
        var bytes = text.getBytes(StandardCharsets.UTF_8);
        var all = new LinkedHashMap<>(headers);
        all.put("Content-Length", String.valueOf(bytes.length));
        head(out, status, all);
        out.write(bytes);
        out.flush();
    }

    static void redirect(OutputStream out, String location) throws IOException {
        head(out, 302, Map.of("Location", location, "Content-Length", "0"));
    }

    /** The head of an answer with the whole content, or with what the request's range asks for; the number of its first byte. */
    static int rangesHead(Request request, OutputStream out, byte[] content) throws IOException {
        var etag = '"' + sha256(content) + '"';
        var range = request.header("Range");
        var condition = request.header("If-Range");
        if (range == null || condition != null && !condition.equals(etag)) {
            head(out, 200, Map.of("Content-Length", "" + content.length, "ETag", etag));
            return 0;
        }
        int from = Integer.parseInt(range.substring("bytes=".length(), range.length() - 1));
        head(out, 206, Map.of("Content-Length", "" + (content.length - from), "ETag", etag,
                "Content-Range", "bytes " + from + "-" + (content.length - 1) + "/" + content.length));
        return from;
    }

    static void ranges(Request request, OutputStream out, byte[] content) throws IOException {
        int from = rangesHead(request, out, content);
        out.write(content, from, content.length - from);
        out.flush();
    }

    /** As {@link #ranges}, but the connection ends before byte {@code end}. */
    static void rangesUntil(Request request, OutputStream out, byte[] content, int end) throws IOException {
        int from = rangesHead(request, out, content);
        out.write(Arrays.copyOfRange(content, from, Math.max(from, end)));
        out.flush();
    }

    List<String> paths() {
        return requests.stream().map(Request::path).toList();
    }

    @Override
    public void close() throws IOException {
        server.close();
        for (var socket : open) {
            socket.close();
        }
    }
}
