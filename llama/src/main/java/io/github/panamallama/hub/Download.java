package io.github.panamallama.hub;

import io.github.panamallama.hub.Connection.BrokenException;
import io.github.panamallama.hub.HubException.Reason;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.function.LongConsumer;
import java.util.regex.Pattern;

/**
 * Brings one file to its place. It grows under a name that holds the hash of its content, so that what is there is always a beginning of
 * the very bytes that are wanted, and takes its own name when all are there and right.
 */
final class Download {
    private static final int BUFFER = 1 << 16;
    private static final Pattern RANGE = Pattern.compile("bytes (\\d+)-(\\d+)/(\\d+)");

    private final Connection connection;
    private final HubOptions options;
    private final HubModel model;
    private final RepositoryFile file;
    private final PullListener listener;
    private final LongConsumer progress;
    private final Path target;
    private final Path partial;
    private final Path tag;
    private MessageDigest digest;
    private long digested;

    /** @param progress is told how many bytes of the file are there */
    Download(Connection connection, HubOptions options, HubModel model, RepositoryFile file, Path target, PullListener listener,
            LongConsumer progress) {
        this.connection = connection;
        this.options = options;
        this.model = model;
        this.file = file;
        this.target = target;
        this.listener = listener;
        this.progress = progress;
        partial = target.resolveSibling(target.getFileName() + "." + file.contentId().substring(0, 16) + ".part");
        tag = partial.resolveSibling(partial.getFileName() + ".etag");
    }

    /** Bytes of the file that an earlier pull has left. */
    long present() throws IOException {
        return Files.exists(partial) ? Files.size(partial) : 0;
    }

    /** Whether the file is in its place; its content is read and compared. */
    boolean isDone() throws IOException {
        return Files.isRegularFile(target) && Files.size(target) == file.size() && hashOf(target).equals(file.contentId());
    }

    void run() throws IOException {
        long best = present();
        for (int failures = 0;; failures++) {
            try {
                attempt();
                return;
            } catch (BrokenException e) {
                connection.cancelled();
                long now = present();
                failures = now > best ? 0 : failures;
                best = Math.max(best, now);
                if (failures >= options.retries()) {
                    throw new HubException(Reason.CONNECTION, model.repository() + ": " + e.getMessage() + "; " + now + " of " + file.size()
                            + " bytes of " + file.path() + " are kept, and the next pull goes on there", e);
                }
                listener.note(e.getMessage() + "; trying again");
                Pause.before(failures, options, connection);
            }
        }
    }

    private void attempt() throws IOException, BrokenException {
        if (present() > file.size()) {
            discard();
        }
        if (present() < file.size()) {
            fetch();
        }
        finish();
    }

    private void fetch() throws IOException, BrokenException {
        long have = present();
        var headers = new LinkedHashMap<String, String>();
        if (have > 0) {
            headers.put("Range", "bytes=" + have + "-");
            if (Files.exists(tag)) {
                headers.put("If-Range", Files.readString(tag, StandardCharsets.ISO_8859_1));
            }
        }
        var address = connection.address("/" + model.repository() + "/resolve/main/" + file.path(), null);
        var answer = connection.get(address, headers);
        try (var body = new WatchedBody(answer.response().body(), options.stallTimeout(), listener)) {
            if (file.sha256() != null && answer.linkedEtag() != null) {
                compare("a hash", answer.linkedEtag().replaceAll("^W/|\"", ""), file.sha256());
            }
            compare("a size", answer.linkedSize(), Long.toString(file.size()));
            switch (answer.status()) {
                case 206 -> compare("a range", range(answer.header("Content-Range")), have + "-" + (file.size() - 1) + "/" + file.size());
                case 416 -> {
                    discard();
                    throw new BrokenException("the file server does not know the rest of " + file.path(), null);
                }
                default -> have = 0;    // the whole file: it is not the one that was begun, or ranges are not known there
            }
            compare("a length", answer.header("Content-Length"), Long.toString(file.size() - have));
            room(file.size() - have);
            var etag = answer.header("ETag");
            if (etag != null && etag.matches("\"[\\x21\\x23-\\x7E]*\"")) {      // a weak one says nothing about bytes
                Files.writeString(tag, etag, StandardCharsets.ISO_8859_1);
            } else {
                Files.deleteIfExists(tag);
            }
            receive(body, have);
        }
    }

    /** What the server says about the file must be what the listing says; null where it says nothing. */
    private void compare(String what, String said, String expected) {
        if (said != null && !said.equals(expected)) {
            throw new HubException(Reason.BAD_ANSWER, "the server gives " + what + " for " + file.path() + " that is not the listing's ("
                    + Names.printable(said) + " instead of " + expected + "); was it replaced just now? Pull again");
        }
    }

    private static String range(String header) {
        var range = RANGE.matcher(header == null ? "" : header);
        return range.matches() ? range.group(1) + "-" + range.group(2) + "/" + range.group(3) : "none";
    }

    private void room(long needed) throws IOException {
        long free = Files.getFileStore(partial.getParent()).getUsableSpace();
        if (free < needed) {
            throw new HubException(Reason.STORAGE, file.path() + " needs " + needed + " more bytes, and " + partial.getParent() + " has "
                    + free + "; make room, or set PANAMA_LLAMA_CACHE to another folder");
        }
    }

    private void receive(WatchedBody body, long from) throws IOException, BrokenException {
        var buffer = new byte[BUFFER];
        try (var channel = FileChannel.open(partial, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            channel.truncate(from);
            channel.position(from);
            digestUpTo(from);
            long at = from;
            progress.accept(at);
            for (int count = body.read(buffer); count >= 0; count = body.read(buffer)) {
                if (at + count > file.size()) {
                    throw new HubException(Reason.BAD_ANSWER, "the server sends more than the " + file.size() + " bytes of " + file.path());
                }
                write(channel, buffer, count);
                digest.update(buffer, 0, count);
                at += count;
                digested = at;
                progress.accept(at);
                connection.cancelled();
            }
            if (at < file.size()) {
                throw new BrokenException("the connection ended after " + at + " of " + file.size() + " bytes of " + file.path(), null);
            }
            channel.force(true);
        }
    }

    private void write(FileChannel channel, byte[] bytes, int count) {
        try {
            for (var left = ByteBuffer.wrap(bytes, 0, count); left.hasRemaining();) {
                channel.write(left);
            }
        } catch (IOException e) {
            throw new HubException(Reason.STORAGE, "can't write " + partial + " (" + Connection.text(e) + "); what has arrived is kept. "
                    + "Make room, or set PANAMA_LLAMA_CACHE to another folder, and pull again", e);
        }
    }

    /** Compares the hash and gives the file its name. */
    private void finish() throws IOException {
        digestUpTo(file.size());
        var hash = HexFormat.of().formatHex(digest.digest());
        digest = null;
        if (!hash.equals(file.contentId())) {
            discard();
            throw new HubException(Reason.CHECKSUM, file.path() + " arrived with the hash " + hash + " instead of " + file.contentId()
                    + "; it was thrown away. Pull again");
        }
        Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        Files.deleteIfExists(tag);
    }

    private void discard() throws IOException {
        digest = null;
        Files.deleteIfExists(partial);
        Files.deleteIfExists(tag);
    }

    /** Brings the hash to the first {@code end} bytes of the partial file, reading only what was not seen when it arrived. */
    private void digestUpTo(long end) throws IOException {
        if (digest == null || digested > end) {
            digest = newDigest();
            digested = 0;
        }
        if (digested < end) {
            digest(partial, digested, end);
            digested = end;
        }
    }

    private String hashOf(Path path) throws IOException {
        digest = newDigest();
        digest(path, 0, file.size());
        var hash = HexFormat.of().formatHex(digest.digest());
        digest = null;
        return hash;
    }

    private void digest(Path path, long from, long end) throws IOException {
        var buffer = ByteBuffer.allocate(BUFFER);
        try (var channel = FileChannel.open(path)) {
            channel.position(from);
            for (long at = from; at < end;) {
                buffer.clear().limit((int) Math.min(BUFFER, end - at));
                int count = channel.read(buffer);
                if (count < 0) {
                    throw new IOException(path + " became shorter while it was read");
                }
                digest.update(buffer.flip());
                at += count;
                connection.cancelled();
            }
        }
    }

    private MessageDigest newDigest() {
        try {
            if (file.sha256() != null) {
                return MessageDigest.getInstance("SHA-256");
            }
            var git = MessageDigest.getInstance("SHA-1");
            git.update(("blob " + file.size() + "\0").getBytes(StandardCharsets.US_ASCII));
            return git;
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has both", e);
        }
    }
}
