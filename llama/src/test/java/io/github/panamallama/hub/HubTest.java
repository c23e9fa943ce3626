package io.github.panamallama.hub;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.hub.HubException.Reason;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class HubTest {
    private static final String REPOSITORY = "org/Model-GGUF";
    private static final String FILE = "model-Q4_K_M.gguf";
    private static final byte[] CONTENT = content(300_000);

    @TempDir
    Path folder;

    private FakeHub server;
    private HubOptions options;

    @BeforeEach
    void start() throws IOException {
        server = new FakeHub();
        options = new HubOptions(server.endpoint(), null, folder, 5, Duration.ZERO, Duration.ofSeconds(30));
    }

    @AfterEach
    void stop() throws IOException {
        server.close();
    }

    private static byte[] content(int size) {
        var bytes = new byte[size];
        new Random(size).nextBytes(bytes);
        return bytes;
    }

    private static Map<String, byte[]> files(String... names) {
        var files = new LinkedHashMap<String, byte[]>();
        for (var name : names) {
            files.put(name, content(1000 + files.size()));
        }
        return files;
    }

    private PulledModel pull(String name) {
        return Hub.open(options).pull(name);
    }

    private HubException refused(Reason reason, String name) {
        var refused = assertThrows(HubException.class, () -> pull(name));
        assertEquals(reason, refused.reason(), refused.getMessage());
        return refused;
    }

    private Path place(String file) {
        return folder.resolve("org").resolve("Model-GGUF").resolve(file);
    }

    private List<Path> partials() throws IOException {
        try (var all = Files.walk(folder)) {
            return all.filter(path -> path.toString().endsWith(".part")).toList();
        }
    }

    @Test
    void bringsTheModelToItsPlaceOnce() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var pulled = pull(REPOSITORY);
        assertEquals("org/Model-GGUF:Q4_K_M", pulled.model().toString());
        assertEquals(place(FILE), pulled.path());
        assertArrayEquals(CONTENT, Files.readAllBytes(pulled.path()));
        assertEquals(List.of(), partials());

        var again = pull(REPOSITORY);
        assertEquals(pulled, again);
        assertEquals(List.of(FakeHub.tree(REPOSITORY), FakeHub.file(REPOSITORY, FILE), FakeHub.tree(REPOSITORY)), server.paths());
        server.requests.clear();
        assertEquals(pulled, Hub.open(options).find(HubModel.parse(REPOSITORY)));
        assertEquals(pulled, Hub.open(options).find(HubModel.parse(REPOSITORY + ":q4_k_m")));
        assertEquals(List.of(pulled), Hub.open(options).list());
        assertEquals(List.of(), server.paths(), "finding needs no network");
    }

    @Test
    void progressGrowsToTheWhole() {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var seen = new ArrayList<PullListener.Progress>();
        Hub.open(options).pull(HubModel.parse(REPOSITORY), seen::add);
        long before = 0;
        for (var progress : seen) {
            assertTrue(progress.done() >= before && progress.total() == CONTENT.length, progress.toString());
            before = progress.done();
        }
        assertEquals(CONTENT.length, before);
        assertTrue(seen.size() > 3, seen.toString());
    }

    @Test
    void aBrokenConnectionGoesOnWhereItWas() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var rounds = new AtomicInteger();
        server.on(FakeHub.file(REPOSITORY, FILE),
                (request, out) -> FakeHub.rangesUntil(request, out, CONTENT, CONTENT.length * rounds.incrementAndGet() / 4));
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
        var asked = server.requests.stream().filter(request -> request.path().contains("/resolve/")).toList();
        assertEquals(4, asked.size());
        assertNull(asked.getFirst().header("Range"));
        for (int i = 1; i < 4; i++) {
            // what a connection brought last may be lost with it
            int from = Integer.parseInt(asked.get(i).header("Range").replaceAll("^bytes=(\\d+)-$", "$1"));
            assertTrue(from > CONTENT.length * (i - 1) / 4 && from <= CONTENT.length * i / 4, "connection " + i + " from " + from);
            assertEquals('"' + FakeHub.sha256(CONTENT) + '"', asked.get(i).header("If-Range"));
        }
    }

    @Test
    void thatBreaksForGoodKeepsWhatArrivedForTheNextPull() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.rangesUntil(request, out, CONTENT, 123_456));
        options = options.withRetries(2, Duration.ZERO);
        assertTrue(refused(Reason.CONNECTION, REPOSITORY).getMessage().contains("123456 of 300000 bytes"));
        int asked = server.paths().size() - 1;
        assertTrue(asked == 3 || asked == 4, asked + " connections: one or two that brought bytes, and two retries that brought none");
        assertEquals(123_456, Files.size(partials().getFirst()));
        assertThrows(HubException.class, () -> Hub.open(options).find(HubModel.parse(REPOSITORY)));

        server.requests.clear();
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
        assertEquals("bytes=123456-", server.requests.getLast().header("Range"));
        assertEquals(List.of(), partials());
    }

    @Test
    void whereRangesAreNotKnownItBeginsAgain() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var first = new AtomicBoolean(true);
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> {
            FakeHub.head(out, 200, Map.of("Content-Length", "" + CONTENT.length));
            out.write(CONTENT, 0, first.getAndSet(false) ? 1000 : CONTENT.length);
        });
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
    }

    @Test
    void aRangeThatTheServerDoesNotKnowBeginsAgain() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var rounds = new AtomicInteger();
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> {
            switch (rounds.getAndIncrement()) {
                case 0 -> FakeHub.rangesUntil(request, out, CONTENT, 1000);
                case 1 -> FakeHub.head(out, 416, Map.of("Content-Length", "0"));
                default -> FakeHub.ranges(request, out, CONTENT);
            }
        });
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
        assertNull(server.requests.getLast().header("Range"));
    }

    @Test
    void aFileThatWasReplacedMeanwhileIsNotMixed() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.rangesUntil(request, out, CONTENT, 1000));
        options = options.withRetries(0, Duration.ZERO);
        refused(Reason.CONNECTION, REPOSITORY);
        var other = content(200_000);
        server.repository(REPOSITORY, Map.of(FILE, other));
        assertArrayEquals(other, Files.readAllBytes(pull(REPOSITORY).path()));
        assertNull(server.requests.getLast().header("Range"), "the beginning that is there is one of other bytes");
    }

    @Test
    void wrongBytesAreThrownAway() throws IOException {
        var wrong = CONTENT.clone();
        wrong[CONTENT.length / 2] ^= 1;
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.ranges(request, out, wrong));
        assertTrue(refused(Reason.CHECKSUM, REPOSITORY).getMessage().contains(FakeHub.sha256(wrong)));
        assertEquals(List.of(), partials());
        assertFalse(Files.exists(place(FILE)));
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
    }

    @Test
    void aPartialFileThatWasDamagedIsFoundByItsHash() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.rangesUntil(request, out, CONTENT, 1000));
        options = options.withRetries(0, Duration.ZERO);
        refused(Reason.CONNECTION, REPOSITORY);
        Files.write(partials().getFirst(), new byte[1000]);
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        refused(Reason.CHECKSUM, REPOSITORY);
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
    }

    @Test
    void aSmallFileIsComparedWithItsHashInGit() throws Exception {
        var sha1 = MessageDigest.getInstance("SHA-1");
        sha1.update(("blob " + CONTENT.length + "\0").getBytes(StandardCharsets.US_ASCII));
        var oid = HexFormat.of().formatHex(sha1.digest(CONTENT));
        server.repository(REPOSITORY, Map.of(FILE, CONTENT)).on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of(),
                "[{\"type\": \"file\", \"path\": \"" + FILE + "\", \"size\": " + CONTENT.length + ", \"oid\": \"" + oid + "\"}]"));
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.ranges(request, out, new byte[CONTENT.length]));
        Hub.open(options).remove(HubModel.parse(REPOSITORY));
        refused(Reason.CHECKSUM, REPOSITORY);
    }

    @Test
    void theTokenGoesToTheHubAndNowhereElse() throws IOException {
        try (var elsewhere = new FakeHub()) {
            server.repository(REPOSITORY, Map.of(FILE, CONTENT));
            server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.redirect(out, "/moved/" + FILE));
            server.on("/moved/" + FILE, (request, out) -> FakeHub.redirect(out, elsewhere.endpoint() + "/blob?sign=1"));
            elsewhere.on("/blob?sign=1", (request, out) -> FakeHub.redirect(out, server.endpoint() + "/back"));
            server.on("/back", (request, out) -> FakeHub.ranges(request, out, CONTENT));
            options = options.withToken("hf_secret");
            pull(REPOSITORY);
            assertEquals(List.of("Bearer hf_secret", "Bearer hf_secret", "Bearer hf_secret"),
                    server.requests.subList(0, 3).stream().map(request -> request.header("Authorization")).toList());
            assertNull(server.requests.get(3).header("Authorization"), "another host has chosen this address");
            assertEquals(1, elsewhere.requests.size());
            assertFalse(elsewhere.requests.getFirst().headers().toString().contains("hf_secret"));
            assertFalse(options.toString().contains("hf_secret"));
        }
    }

    @ParameterizedTest
    @CsvSource({"401, false, NOT_FOUND, HF_TOKEN", "401, true, DENIED, not accepted", "403, false, DENIED, accept its terms",
        "403, true, DENIED, accept the terms", "404, false, NOT_FOUND, org/Model-GGUF", "400, false, BAD_ANSWER, 400",
        "429, false, CONNECTION, too many requests", "503, false, CONNECTION, 503"})
    void statusesSayWhatToDo(int status, boolean token, Reason reason, String words) {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, status, Map.of(), "no"));
        options = options.withToken(token ? "hf_x" : null).withRetries(1, Duration.ZERO);
        assertTrue(refused(reason, REPOSITORY).getMessage().contains(words));
        assertEquals(reason == Reason.CONNECTION ? 2 : 1, server.requests.size(), "only what may pass is tried again");
    }

    @Test
    void aHubThatRecoversIsTriedAgain() throws IOException {
        var rounds = new AtomicInteger();
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> {
            if (rounds.getAndIncrement() < 2) {
                FakeHub.body(out, 502, Map.of(), "");
            } else {
                FakeHub.body(out, 200, Map.of(), FakeHub.listing(Map.of(FILE, CONTENT)));
            }
        });
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
    }

    @Test
    void nobodyAnswersIsAConnectionFailure() throws IOException {
        options = options.withRetries(0, Duration.ZERO);
        server.close();
        var message = refused(Reason.CONNECTION, REPOSITORY).getMessage();
        assertTrue(message.contains("no connection to 127.0.0.1: nothing answers there"), message);
    }

    @Test
    void aConnectionThatSaysNothingIsGivenUp() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var end = new CountDownLatch(1);
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> {
            FakeHub.rangesUntil(request, out, CONTENT, 5000);
            end.await();
        });
        options = options.withRetries(0, Duration.ZERO).withStallTimeout(Duration.ofMillis(300));
        assertTrue(refused(Reason.CONNECTION, REPOSITORY).getMessage().contains("nothing has arrived"));
        end.countDown();
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> new CountDownLatch(1).await());
        assertTrue(refused(Reason.CONNECTION, REPOSITORY).getMessage().contains("does not answer"));
    }

    @Test
    void redirectsInACircleEnd() {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.redirect(out, "/a"))
                .on("/a", (request, out) -> FakeHub.redirect(out, "/b")).on("/b", (request, out) -> FakeHub.redirect(out, "/a"));
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("in a circle"));
    }

    @Test
    void redirectsWithoutEndEnd() {
        for (int i = 0; i < 20; i++) {
            var next = "/r" + (i + 1);
            server.on("/r" + i, (request, out) -> FakeHub.redirect(out, next));
        }
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.redirect(out, "/r0"));
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("more than 10 times"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "ftp://127.0.0.1/x", "file:///x.gguf", "http://[", "mailto:x"})
    void redirectsLeadToWebAddressesOnly(String location) {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.redirect(out, location));
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("redirected to"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"../x.gguf", "a/../../x.gguf", "/x.gguf", "a//x.gguf", "..\\\\x.gguf", "C:x.gguf", ".x.gguf",
        "a/.pulled/x.gguf", "./x.gguf", "a\\u0000.gguf", "a\\n.gguf", "a\\u001b[2J.gguf", "a./x.gguf", ".gguf"})
    void namesThatLeaveTheFolderAreRefused(String hostile) throws IOException {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of(),
                "[" + FakeHub.entry(FILE, CONTENT.length, FakeHub.sha256(CONTENT)) + ","
                        + FakeHub.entry(hostile, 1000, "0".repeat(64)) + "]"));
        var message = refused(Reason.BAD_ANSWER, REPOSITORY).getMessage();
        assertTrue(message.contains("would not stay in its folder") && message.chars().noneMatch(Character::isISOControl), message);
        assertEquals(1, server.requests.size());
    }

    @Test
    void aNameLongerThanFileSystemsAllowIsRefused() {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of(),
                "[" + FakeHub.entry("a".repeat(300) + ".gguf", 1000, "0".repeat(64)) + "]"));
        refused(Reason.BAD_ANSWER, REPOSITORY);
    }

    @ParameterizedTest
    @ValueSource(strings = {"<html>login</html>", "{\"error\": \"no\"}", "[",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"lfs\": {\"size\": 5}}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"size\": 5, \"oid\": \"no hash\"}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"oid\": \"0000000000000000000000000000000000000000\"}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"size\": 0, \"oid\": \"0000000000000000000000000000000000000000\"}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"size\": -9, \"oid\": \"0000000000000000000000000000000000000000\"}]",
        "[{\"type\": \"file\", \"path\": \"a.gguf\", \"size\": \"many\", \"oid\": \"0000000000000000000000000000000000000000\"}]"})
    void aListingThatIsNoneIsRefused(String text) {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of(), text));
        refused(Reason.BAD_ANSWER, REPOSITORY);
    }

    @Test
    void aNameThatIsListedTwiceIsRefused() {
        var entry = FakeHub.entry(FILE, 1000, "0".repeat(64));
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of(), "[" + entry + "," + entry + "]"));
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("twice"));
    }

    @Test
    void listingsGoOnOverPagesOfTheHubOnly() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        server.on("/page2", (request, out) -> FakeHub.body(out, 200, Map.of(), FakeHub.listing(Map.of(FILE, CONTENT))));
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of("Link", "</page2>; rel=\"next\""),
                FakeHub.listing(files("other-Q8_0.gguf"))));
        assertEquals(place(FILE), pull(REPOSITORY).path());
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200,
                Map.of("Link", "<http://127.0.0.1:1/x>; rel=\"next\""), "[]"));
        refused(Reason.BAD_ANSWER, REPOSITORY);
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200,
                Map.of("Link", "<" + FakeHub.tree(REPOSITORY) + ">; rel=\"next\""), "[]"));
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("pages"));
    }

    @ParameterizedTest
    @CsvSource({"Content-Length, 299999", "Content-Length, 300001", "X-Linked-Size, 5", "X-Linked-Etag, abcdef"})
    void whatTheServerSaysOfTheFileMustBeWhatTheListingSays(String header, String value) throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT)).on(FakeHub.file(REPOSITORY, FILE), (request, out) -> {
            FakeHub.head(out, 200, Map.of(header, value));
            out.write(CONTENT);
        });
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("not the listing's"));
        assertFalse(Files.exists(place(FILE)));
    }

    @Test
    void moreBytesThanThereShouldBeAreRefused() {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT)).on(FakeHub.file(REPOSITORY, FILE), (request, out) -> {
            FakeHub.head(out, 200, Map.of());      // no length: until the connection ends
            out.write(CONTENT);
            out.write(0);
        });
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("more than the 300000 bytes"));
    }

    @Test
    void aWrongRangeIsRefused() {
        var first = new AtomicBoolean(true);
        server.repository(REPOSITORY, Map.of(FILE, CONTENT)).on(FakeHub.file(REPOSITORY, FILE), (request, out) -> {
            if (first.getAndSet(false)) {
                FakeHub.rangesUntil(request, out, CONTENT, 1000);
            } else {
                FakeHub.head(out, 206, Map.of("Content-Range", "bytes 0-299999/300000"));
                out.write(CONTENT);
            }
        });
        assertTrue(refused(Reason.BAD_ANSWER, REPOSITORY).getMessage().contains("a range"));
    }

    @Test
    void allPartsOfASplitModelAreBroughtInOrder() throws IOException {
        var files = files("Q8_0/m-Q8_0-00002-of-00003.gguf", "Q8_0/m-Q8_0-00001-of-00003.gguf", "Q8_0/m-Q8_0-00003-of-00003.gguf",
                "m-Q2_K-00001-of-00002.gguf");
        server.repository(REPOSITORY, files);
        var pulled = pull(REPOSITORY);
        assertEquals(List.of(place("Q8_0/m-Q8_0-00001-of-00003.gguf"), place("Q8_0/m-Q8_0-00002-of-00003.gguf"),
                place("Q8_0/m-Q8_0-00003-of-00003.gguf")), pulled.files());
        assertEquals("org/Model-GGUF:Q8_0", pulled.model().toString());
        for (var path : pulled.files()) {
            assertArrayEquals(files.get("Q8_0/" + path.getFileName()), Files.readAllBytes(path));
        }
        assertTrue(refused(Reason.NO_SUCH_FILE, REPOSITORY + ":Q2_K").getMessage().contains("m-Q2_K-00002-of-00002.gguf is missing"));
        assertTrue(refused(Reason.NO_SUCH_FILE, REPOSITORY + ":Q8_0/m-Q8_0-00002-of-00003.gguf").getMessage().contains("not the first"));
    }

    @Test
    void aSplitModelThatBrokeKeepsItsFinishedParts() throws IOException {
        var files = files("m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf");
        server.repository(REPOSITORY, files);
        server.on(FakeHub.file(REPOSITORY, "m-Q8_0-00002-of-00002.gguf"), (request, out) -> FakeHub.head(out, 404, Map.of()));
        var message = refused(Reason.NOT_FOUND, REPOSITORY).getMessage();
        assertTrue(message.contains("m-Q8_0-00002-of-00002.gguf"), message);
        assertThrows(HubException.class, () -> Hub.open(options).find(HubModel.parse(REPOSITORY)), "half a model is none");
        server.requests.clear();
        server.repository(REPOSITORY, files);
        assertEquals(2, pull(REPOSITORY).files().size());
        assertEquals(List.of(FakeHub.tree(REPOSITORY), FakeHub.file(REPOSITORY, "m-Q8_0-00002-of-00002.gguf")), server.paths());
    }

    /** As llama.cpp chooses: the usual ones first, then the first listed; what is no model of text never. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "             | a-Q8_0.gguf,a-Q4_K_M.gguf,a-Q2_K.gguf                | a-Q4_K_M.gguf",
        "             | a-F16.gguf,a-q8_0.gguf                               | a-q8_0.gguf",
        "             | mmproj-a-Q4_K_M.gguf,a-Q2_K.gguf,a-Q3_K.gguf         | a-Q2_K.gguf",
        "             | a.imatrix.gguf,mtp-a-Q8_0.gguf,weights.gguf          | weights.gguf",
        "q4_xs        | a-IQ4_XS.gguf,a-Q4_XS.gguf                           | a-Q4_XS.gguf",
        "Q4_K         | a-Q4_K_M.gguf,a.Q4_K.gguf                            | a.Q4_K.gguf",
        "IQ4_XS       | a-UD-IQ4_XS.gguf                                     | a-UD-IQ4_XS.gguf",
        "UD-Q4_K_XL   | a-Q4_K_XL.gguf,a-UD-Q4_K_XL.gguf                     | a-UD-Q4_K_XL.gguf",
        "BF16         | a-F16.gguf,BF16/a.gguf                               | BF16/a.gguf",
        "a-Q2_K.gguf  | b-Q2_K.gguf,a-Q2_K.gguf                              | a-Q2_K.gguf",
    })
    void choosesTheQuantisation(String quant, String names, String expected) {
        server.repository(REPOSITORY, files(names.strip().split(",")));
        assertEquals(place(expected), pull(REPOSITORY + (quant == null ? "" : ":" + quant)).path());
    }

    @Test
    void whatIsNotThereIsAnsweredWithWhatIs() {
        server.repository(REPOSITORY, files("a-Q2_K.gguf", "a-UD-IQ3_XXS.gguf", "mmproj-F16.gguf", "config.gguf"));
        var message = refused(Reason.NO_SUCH_FILE, REPOSITORY + ":Q6_K").getMessage();
        assertTrue(message.endsWith("has no Q6_K; it has Q2_K, UD-IQ3_XXS, config.gguf"), message);
        server.repository(REPOSITORY, files("model.safetensors"));
        assertTrue(refused(Reason.NO_SUCH_FILE, REPOSITORY).getMessage().contains("no GGUF file"));
        server.repository(REPOSITORY, files("mmproj-F16.gguf"));
        refused(Reason.NO_SUCH_FILE, REPOSITORY);
    }

    @Test
    void aChangedRepositoryReplacesTheModel() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        pull(REPOSITORY);
        var next = content(CONTENT.length + 1);
        server.repository(REPOSITORY, Map.of(FILE, next));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.rangesUntil(request, out, next, 1000));
        options = options.withRetries(0, Duration.ZERO);
        refused(Reason.CONNECTION, REPOSITORY);
        server.repository(REPOSITORY, Map.of(FILE, next));
        assertArrayEquals(next, Files.readAllBytes(pull(REPOSITORY).path()));
    }

    @Test
    void manyAtOnceFetchOnce() throws Exception {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            Callable<PulledModel> pull = () -> pull(REPOSITORY);
            for (var done : threads.invokeAll(Collections.nCopies(8, pull))) {
                assertArrayEquals(CONTENT, Files.readAllBytes(done.get().path()));
            }
        }
        assertEquals(1, server.paths().stream().filter(FakeHub.file(REPOSITORY, FILE)::equals).count());
    }

    @Test
    void aCancelledPullGoesOnLater() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        var stop = new AtomicBoolean();
        var listener = new PullListener() {
            @Override
            public void progress(Progress progress) {
                stop.set(progress.done() > 10_000);
            }

            @Override
            public boolean cancelled() {
                return stop.get();
            }
        };
        var cancelled = assertThrows(HubException.class, () -> Hub.open(options).pull(HubModel.parse(REPOSITORY), listener));
        assertEquals(Reason.CANCELLED, cancelled.reason());
        assertTrue(Files.size(partials().getFirst()) > 10_000);
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()));
        assertNotNull(server.requests.getLast().header("Range"));
    }

    @Test
    void aModelLargerThanTheDiskIsRefusedBeforeItIsFetched() throws IOException {
        server.on(FakeHub.tree(REPOSITORY), (request, out) -> FakeHub.body(out, 200, Map.of(),
                "[" + FakeHub.entry(FILE, 1L << 60, "0".repeat(64)) + "]"));
        server.on(FakeHub.file(REPOSITORY, FILE), (request, out) -> FakeHub.head(out, 200, Map.of("Content-Length", "" + (1L << 60))));
        assertTrue(refused(Reason.STORAGE, REPOSITORY).getMessage().contains("make room"));
        assertEquals(List.of(), partials());
    }

    @Test
    void aFolderThatCannotBeWrittenIsAStorageFailure() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        options = options.withFolder(Files.createFile(folder.resolve("taken")));
        assertTrue(refused(Reason.STORAGE, REPOSITORY).getMessage().contains("PANAMA_LLAMA_CACHE"));
    }

    @Test
    void removesWhatIsAskedFor() throws IOException {
        server.repository(REPOSITORY, files("a-Q2_K.gguf", "a-Q8_0.gguf", "a-Q6_K.gguf"));
        pull(REPOSITORY + ":Q2_K");
        pull(REPOSITORY + ":Q6_K");
        pull(REPOSITORY + ":a-Q6_K.gguf");
        var hub = Hub.open(options);
        var several = assertThrows(HubException.class, () -> hub.find(HubModel.parse(REPOSITORY))).getMessage();
        assertTrue(several.contains("Q2_K, org/Model-GGUF:Q6_K"), several);
        pull(REPOSITORY + ":Q8_0");
        assertEquals(place("a-Q8_0.gguf"), hub.find(HubModel.parse(REPOSITORY)).path(), "the usual one");

        assertEquals(1000, hub.remove(HubModel.parse(REPOSITORY + ":Q2_K")));
        assertFalse(Files.exists(place("a-Q2_K.gguf")));
        assertEquals(0, hub.remove(HubModel.parse(REPOSITORY + ":Q6_K")), "another name keeps the file");
        assertTrue(Files.exists(place("a-Q6_K.gguf")));
        assertEquals(Reason.NOT_PULLED, assertThrows(HubException.class, () -> hub.remove(HubModel.parse(REPOSITORY + ":Q2_K"))).reason());
        assertTrue(hub.remove(HubModel.parse(REPOSITORY)) >= 2001);
        assertEquals(List.of(), hub.list());
        assertFalse(Files.exists(place("")));
        assertEquals(Reason.NOT_PULLED, assertThrows(HubException.class, () -> hub.remove(HubModel.parse(REPOSITORY))).reason());
    }

    @Test
    void aFileThatWasTakenAwayIsNoModelAnyMore() throws IOException {
        server.repository(REPOSITORY, Map.of(FILE, CONTENT));
        Files.write(pull(REPOSITORY).path(), new byte[7]);
        assertEquals(List.of(), Hub.open(options).list());
        assertArrayEquals(CONTENT, Files.readAllBytes(pull(REPOSITORY).path()), "and is fetched again");
    }

    @ParameterizedTest
    @ValueSource(strings = {"model", "a/b/c", "../b", "a/..", "a/b:", "a/b:../c.gguf", "a/b:x y", "/b", "a/", "a b/c", "-a/b",
        "a/b.", "a:b/c"})
    void namesOfModelsHaveTheirForm(String name) {
        assertThrows(IllegalArgumentException.class, () -> HubModel.parse(name));
        assertFalse(HubModel.isName(name));
    }

    @Test
    void aPathOfAFileIsNoNameOfAModel() {
        assertFalse(HubModel.isName("models/a.gguf"));
        assertTrue(HubModel.isName("org/model:a.gguf"));
        assertEquals("org/m:UD-Q4_K_XL", HubModel.parse("org/m:ud-q4_k_xl").toString());
    }

    @ParameterizedTest
    @ValueSource(strings = {"huggingface.co", "ftp://host", "https://", "https://user:secret@host", "https://host?x=1", "https://[",
        "no uri at all"})
    void endpointsAreWebAddresses(String endpoint) {
        assertThrows(IllegalArgumentException.class, () -> HubOptions.of(Map.of("HF_ENDPOINT", endpoint)));
    }

    @Test
    void theEnvironmentNamesEndpointAndToken() {
        assertEquals(HubOptions.HUGGING_FACE, HubOptions.of(Map.of()).endpoint());
        var mirror = HubOptions.of(Map.of("HF_ENDPOINT", "https://mirror.example/hf/", "HF_TOKEN", " hf_x\n"));
        assertEquals(URI.create("https://mirror.example/hf/"), mirror.endpoint());
        assertEquals("hf_x", mirror.token());
        assertThrows(IllegalArgumentException.class, () -> HubOptions.of(Map.of("HF_TOKEN", "two words")));
        var unencrypted = Map.of("HF_ENDPOINT", "http://mirror.example", "HF_TOKEN", "hf_x");
        assertThrows(IllegalArgumentException.class, () -> HubOptions.of(unencrypted));
        assertThrows(IllegalArgumentException.class, () -> HubOptions.of(Map.of("HF_ENDPOINT", "http://127.0.example", "HF_TOKEN",
                "hf_x")));
        assertEquals("hf_x", HubOptions.of(Map.of("HF_ENDPOINT", "http://127.0.0.1:8080", "HF_TOKEN", "hf_x")).token());
    }
}
