package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.EOFException;
import java.io.IOException;
import java.nio.channels.ClosedChannelException;
import java.nio.charset.MalformedInputException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LlamaExceptionTest {
    @Test
    void whatTheSystemSaysIsToldInWords(@TempDir Path folder) throws IOException {
        var file = Files.write(folder.resolve("file"), new byte[] {(byte) 0xFF});
        assertEquals("there is no such file or folder", reason(() -> Files.readString(folder.resolve("none"))));
        assertEquals("Not a directory", reason(() -> Files.readString(file.resolve("below"))));
        assertEquals("it is not UTF-8 text", reason(() -> Files.readString(file)));
        assertEquals("something of that name is there", reason(() -> Files.createDirectory(file)));
        assertEquals("the folder is not empty", reason(() -> Files.delete(folder)));
        assertEquals("it is no folder", reason(() -> Files.newDirectoryStream(file).close()));
    }

    @Test
    void noReasonNamesAClassOrStopsAtTheFile() {
        for (var e : List.of(new IOException(), new EOFException(), new ClosedChannelException(), new MalformedInputException(1),
                new FileSystemException("/some/file"), new DirectoryNotEmptyException("/some/file"),
                        new NotDirectoryException("/some/file"))) {
            var reason = LlamaException.reason(e);
            assertFalse(reason.isBlank() || reason.contains("Exception") || reason.contains("/some/file"), e.getClass() + ": " + reason);
        }
        assertEquals("No space left on device", LlamaException.reason(new IOException("No space left on device")));
    }

    private interface Use {
        void run() throws IOException;
    }

    private static String reason(Use use) {
        return LlamaException.reason(assertThrows(IOException.class, use::run));
    }
}
