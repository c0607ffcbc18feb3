import java.util.concurrent.Callable;

/** A JVM to debug: workers that call each other's methods for ever, classes of every kind, threads that end soon. */
public class Target {
  static volatile long done;

  interface Taxed {
    static int rate(int item) {
      int base = item % 7;
      return base + 3;
    }

    default int taxed(int item) {
      int net = item * 2;
      return net + rate(item);
    }
  }

  static class Order implements Taxed {
    private final int size;

    Order(int size) {
      this.size = size;
    }

    int total() {
      int sum = 0;
      for (int i = 0; i < size; i++) {
        sum += price(i);
      }
      return sum;
    }

    private int price(int item) {
      int taxed = taxed(item);
      return taxed + 1;
    }

    @Override
    public String toString() {
      int shown = size + 1;
      return "Order " + shown;
    }
  }

  static class Worker extends Thread {
    private final int number;

    Worker(int number) {
      super("worker-" + number);
      this.number = number;
      setDaemon(true);
    }

    @Override
    public void run() {
      while (true) {
        try {
          work();
          Thread.sleep(5 + number);
        } catch (Exception e) {
          done--;
        }
      }
    }

    private void work() throws Exception {
      Order order = new Order(3);
      int total = order.total();
      total += nested(total);
      total += depth(4);
      Callable<Integer> later = () -> {
        int more = number + 1;
        return more * 2;
      };
      total += later.call();
      total += Big.all(number);
      fails(total);
    }

    private void fails(int total) {
      if (total != 0) {
        throw new IllegalStateException("as every time");
      }
    }
  }

  static int nested(int value) {
    int twice = value * 2;
    int inner = inner(twice);
    return inner + 1;
  }

  static int inner(int value) {
    int next = value + 1;
    next += 2;
    return next;
  }

  static int depth(int left) {
    if (left == 0) {
      return 1;
    }
    int below = depth(left - 1);
    return below + 1;
  }

  public static void main(String[] args) throws Exception {
    for (int i = 0; i < 3; i++) {
      new Worker(i).start();
    }
    System.out.println("open");
    while (true) {
      Thread brief = new Thread(() -> halve(400), "brief");
      brief.setDaemon(true);
      brief.start();
      pause(100);
    }
  }

  static void halve(long millis) {
    pause(millis / 2);
    Thread.currentThread().setName("brief, soon over");
    pause(millis / 2);
  }

  static void pause(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    done++;
  }
}

/** Many small methods: a breakpoint by line asks for the line tables of all of them. */
class Big {
  static int all(int seed) {
    int sum = 0;
    // METHODS are called here
    return sum;
  }
  // METHODS are here
}
