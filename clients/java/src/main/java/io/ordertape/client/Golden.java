package io.ordertape.client;

import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Reads each message of a folder and writes it again, so that its bytes and its JSON can be
 * compared with those of other languages. The files are called FULL.MESSAGE.Name--CASE.bin or
 * .json.
 */
public final class Golden {
  private Golden() {}

  public static void main(String[] args) throws IOException, ReflectiveOperationException {
    if (args.length != 2) {
      System.err.println("usage: Golden IN_DIR OUT_DIR");
      System.exit(2);
    }
    Path out = Path.of(args[1]);
    try (var files = Files.newDirectoryStream(Path.of(args[0]), "*.{bin,json}")) {
      for (Path file : files) {
        rewrite(file, out);
      }
    }
  }

  private static void rewrite(Path file, Path out)
      throws IOException, ReflectiveOperationException {
    String name = file.getFileName().toString();
    String stem = name.substring(0, name.lastIndexOf('.'));
    Message.Builder builder = newBuilder(stem.split("--", 2)[0]);
    if (name.endsWith(".json")) {
      JsonFormat.parser().merge(Files.readString(file), builder);
      writeBinary(builder.build(), out.resolve(stem + ".fromjson.bin"));
    } else {
      Message message = builder.mergeFrom(Files.readAllBytes(file)).build();
      Files.writeString(out.resolve(stem + ".json"), JsonFormat.printer().print(message));
      writeBinary(message, out.resolve(stem + ".bin"));
    }
  }

  /**
   * A builder for a message by its full name: the class of ordertape.v1.Fill is
   * io.ordertape.v1.Fill.
   */
  private static Message.Builder newBuilder(String fullName) throws ReflectiveOperationException {
    Class<?> type = Class.forName("io." + fullName);
    return (Message.Builder) type.getMethod("newBuilder").invoke(null);
  }

  private static void writeBinary(Message message, Path path) throws IOException {
    try (OutputStream stream = Files.newOutputStream(path)) {
      CodedOutputStream coded = CodedOutputStream.newInstance(stream);
      coded.useDeterministicSerialization();
      message.writeTo(coded);
      coded.flush();
    }
  }
}
