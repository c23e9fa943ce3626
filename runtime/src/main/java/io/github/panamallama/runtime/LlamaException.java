package io.github.panamallama.runtime;

import java.io.EOFException;
import java.io.IOException;
import java.nio.channels.ClosedChannelException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;

/**
 * What every failure of this runtime derives from. The message names the cause, the value at fault and what to do about it.
 */
public class LlamaException extends RuntimeException {
    public LlamaException(String message) {
        super(message);
    }

    public LlamaException(String message, Throwable cause) {
        super(message, cause);
    }

    /** What went wrong with a file that a message names, in words: the JDK's exceptions often say no more than its name, or nothing. */
    public static String reason(IOException e) {
        return switch (e) {
            case NoSuchFileException missing -> "there is no such file or folder";
            case AccessDeniedException denied -> "permission denied";
            case FileAlreadyExistsException there -> "something of that name is there";
            case NotDirectoryException file -> "it is no folder";
            case DirectoryNotEmptyException folder -> "the folder is not empty";
            case FileSystemException other -> other.getReason() == null ? "the file system refuses it" : other.getReason();
            case CharacterCodingException text -> "it is not UTF-8 text";
            case EOFException end -> "it ends too early";
            case ClosedChannelException closed -> "it was closed meanwhile";
            default -> e.getMessage() == null ? "the system gives no reason" : e.getMessage();
        };
    }
}
