import java.util.concurrent.CountDownLatch;

/**
 * A JVM to debug in tests, for Java 8 and later: it serves orders for ever, ten a second, and says so on one line.
 *
 * <p>An argument starts that many threads that do nothing.
 */
public class Shop {
  static volatile long served;

  static class OrderService {
    long total(int items) {
      long sum = 0;
      for (int i = 1; i <= items; i++) {
        long price = price(i);
        sum += price;
      }
      return sum;
    }

    private long price(int item) {
      long base = 100L * item;
      return base + 19;
    }
  }

  public static void main(String[] args) throws Exception {
    CountDownLatch never = new CountDownLatch(1);
    for (int i = 0; i < (args.length > 0 ? Integer.parseInt(args[0]) : 0); i++) {
      Thread idle =
          new Thread(
              () -> {
                try {
                  never.await();
                } catch (InterruptedException e) {
                  Thread.currentThread().interrupt();
                }
              },
              "idle-" + i);
      idle.setDaemon(true);
      idle.start();
    }
    OrderService orders = new OrderService();
    System.out.println("open");
    while (true) {
      orders.total(100);
      served++;
      Thread.sleep(100);
    }
  }
}
