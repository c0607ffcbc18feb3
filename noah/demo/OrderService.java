import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** A shop in one file, for Java 8 and later: /checkurl says that it is healthy, /orders prices an order. */
public class OrderService {
  static long price(int items) {
    long cents = 0;
    for (int item = 1; item <= items; item++) {
      cents += 199 * item; // a good place for a breakpoint
    }
    return cents;
  }

  public static void main(String[] args) throws IOException {
    String port = System.getenv("PORT");
    HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(port == null ? "8080" : port)), 50);
    server.setExecutor(Executors.newCachedThreadPool(task -> {
      Thread thread = new Thread(task, "orders");
      thread.setDaemon(true);
      return thread;
    }));
    answer(server, "/checkurl", () -> "ok");
    answer(server, "/orders", () -> Long.toString(price(3)));
    server.start();
  }

  interface Page {
    String text();
  }

  static void answer(HttpServer server, String path, Page page) {
    server.createContext(path, exchange -> {
      byte[] bytes = page.text().getBytes("UTF-8");
      exchange.sendResponseHeaders(200, bytes.length);
      try (OutputStream out = exchange.getResponseBody()) {
        out.write(bytes);
      }
    });
  }
}
