package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.TokenProbability;
import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.ConcurrentModificationException;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(120)
class FramesTest {
    @TempDir
    Path folder;

    private SocketChannel one;
    private SocketChannel other;

    @BeforeEach
    void connect() throws IOException {
        var address = UnixDomainSocketAddress.of(folder.resolve("s"));
        try (var server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            server.bind(address);
            one = SocketChannel.open(address);
            other = server.accept();
        }
    }

    @AfterEach
    void disconnect() throws IOException {
        one.close();
        other.close();
    }

    @Test
    void messagesOfAnyLengthArriveWholeAndInOrder() throws Exception {
        var random = new Random(3);
        var lengths = new int[] {0, 1, 12, 65_000, 65_523, 65_524, 65_536, 1 << 20, 5_000_000, 3};
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var payloads = new byte[lengths.length][];
            for (int i = 0; i < lengths.length; i++) {
                random.nextBytes(payloads[i] = new byte[lengths[i]]);
            }
            var sent = threads.submit(() -> {
                var frames = new Frames(one);
                for (int i = 0; i < lengths.length; i++) {
                    frames.write(Type.values()[i], 1L << (6 * i), payloads[i]);
                }
                one.close();
                return null;
            });
            var frames = new Frames(other);
            for (int i = 0; i < lengths.length; i++) {
                var frame = frames.read();
                assertEquals(Type.values()[i], frame.type());
                assertEquals(1L << (6 * i), frame.call());
                assertArrayEquals(payloads[i], frame.payload());
            }
            assertNull(frames.read());
            sent.get();
        }
    }

    @Test
    void randomBytesAreRefusedOrEnd() throws Exception {
        for (int seed = 0; seed < 200; seed++) {
            disconnect();
            Files.deleteIfExists(folder.resolve("s"));
            connect();
            var random = new Random(seed);
            var bytes = new byte[1 + random.nextInt(2000)];
            random.nextBytes(bytes);
            one.write(ByteBuffer.wrap(bytes));
            one.close();
            var frames = new Frames(other);
            int read = 0;
            try {
                while (frames.read() != null) {
                    read++;
                }
            } catch (BrokenException e) {
                assertNotNull(e.getMessage());
            }
            assertTrue(read <= bytes.length / 13, "seed " + seed);
        }
    }

    @Test
    void aLengthAloneTakesNoMemory() throws Exception {
        one.write(ByteBuffer.allocate(13).putInt(Frames.MOST).put((byte) 0).putLong(0).flip());
        one.close();
        assertNull(new Frames(other).read());
        assertThrows(IllegalArgumentException.class, () -> new Frames(other).write(Type.LOAD, 1, new byte[Frames.MOST]));
    }

    @Test
    void piecesCarryTextAndProbabilities() throws Exception {
        var logProbs = List.of(new LogProbs(new TokenProbability(5, -0.5), List.of()),
                new LogProbs(new TokenProbability(6, Double.NEGATIVE_INFINITY),
                        List.of(new TokenProbability(7, Double.NaN), new TokenProbability(8, -1))));
        var piece = new Wire.Piece("für ∑ 😀", 3, 1L << 40, 2, logProbs, List.of(new Wire.Measure(5, -0.5, Double.NaN, 1)));
        assertEquals(piece, Wire.Piece.of(piece.bytes()));
        var bytes = piece.bytes();
        int text = "für ∑ 😀".getBytes(StandardCharsets.UTF_8).length;
        for (int n = 0; n < bytes.length - text; n++) {
            var cut = Arrays.copyOf(bytes, n);
            assertThrows(BrokenException.class, () -> Wire.Piece.of(cut));
        }
    }

    @Test
    void jsonThatIsNoAnswerIsRefused() {
        for (var text : List.of("", "null", "[]", "{}", "{\"type\":null}", "{\"type\":\"x\",\"surplus\":1}", "\0\1\2", "{\"type\":")) {
            assertThrows(BrokenException.class, () -> Wire.read(text.getBytes(StandardCharsets.UTF_8), Wire.Failure.class), text);
            assertThrows(BrokenException.class, () -> Wire.read(text.getBytes(StandardCharsets.UTF_8), Wire.End.class), text);
            assertThrows(BrokenException.class, () -> Wire.read(text.getBytes(StandardCharsets.UTF_8), Wire.Loaded.class), text);
            assertThrows(BrokenException.class, () -> Wire.read(text.getBytes(StandardCharsets.UTF_8), Wire.Opened.class), text);
        }
    }

    @Test
    void aFailureOfAnUnknownTypeIsTold() throws Exception {
        var failure = Wire.read(Wire.json(Wire.Failure.of(new ConcurrentModificationException("odd"), null)), Wire.Failure.class);
        var e = failure.exception();
        assertEquals(LlamaException.class, e.getClass());
        assertTrue(e.getMessage().contains("ConcurrentModificationException") && e.getMessage().contains("odd"), e.getMessage());
    }
}
