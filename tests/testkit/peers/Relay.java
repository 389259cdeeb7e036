import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** A relay of Java's JSSE, as many write one. Relay PORT FILE: in a folder with server.crt, server.key and chain.crt. */
public final class Relay {
    public static void main(String[] arguments) throws Exception {
        OutputStream lines = Files.newOutputStream(
                Path.of(arguments[1]), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        SSLServerSocket server = (SSLServerSocket) context()
                .getServerSocketFactory()
                .createServerSocket(Integer.parseInt(arguments[0]), 128, InetAddress.getByName("127.0.0.1"));
        server.setNeedClientAuth(true);
        while (true) {
            SSLSocket peer = (SSLSocket) server.accept();
            Thread thread = new Thread(() -> serve(peer, lines));
            thread.setDaemon(true);
            thread.start();
        }
    }

    private static void serve(SSLSocket peer, OutputStream lines) {
        byte[] data = new byte[1 << 17];
        int held = 0;
        try (peer) {
            InputStream input = peer.getInputStream();
            int count;
            while ((count = input.read(data, held, data.length - held)) > 0) {
                held += count;
                int whole = held;
                while (whole > 0 && data[whole - 1] != '\n') {
                    whole--;
                }
                synchronized (lines) {
                    lines.write(data, 0, whole);
                }
                System.arraycopy(data, whole, data, 0, held - whole);
                held -= whole;
            }
        } catch (Exception error) {
            System.err.println(error);
        }
    }

    private static SSLContext context() throws Exception {
        CertificateFactory certificates = CertificateFactory.getInstance("X.509");
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        try (InputStream chain = Files.newInputStream(Path.of("chain.crt"))) {
            int number = 0;
            for (Certificate certificate : certificates.generateCertificates(chain)) {
                trusted.setCertificateEntry("chain-" + number++, certificate);
            }
        }
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null, null);
        try (InputStream chain = Files.newInputStream(Path.of("server.crt"))) {
            Certificate[] all = certificates.generateCertificates(chain).toArray(new Certificate[0]);
            String pem = Files.readString(Path.of("server.key"));
            byte[] key = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
            String algorithm = all[0].getPublicKey().getAlgorithm();
            own.setKeyEntry(
                    "relay",
                    KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(key)),
                    new char[0],
                    all);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, new char[0]);
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private Relay() {}
}
