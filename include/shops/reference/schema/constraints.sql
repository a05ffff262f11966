-- The reference shop, 2 of 3: indexes and foreign keys.

-- What changed in a window, in key order: the reads of an incremental run.
CREATE INDEX customers_changed ON customers (updated_at, customer_id);
CREATE INDEX products_changed ON products (updated_at, product_id);
CREATE INDEX carts_changed ON carts (updated_at, cart_id);
CREATE INDEX orders_changed ON orders (updated_at, order_id);
CREATE INDEX coupons_changed ON coupons (updated_at, coupon_id);
CREATE INDEX deleted_records_lately ON deleted_records (deleted_at);

-- Children by parent. The lines' primary keys start with their parent's key and need nothing more.
CREATE UNIQUE INDEX variants_of_product ON variants (product_id, variant_id);
CREATE UNIQUE INDEX product_images_of_product ON product_images (product_id, position);
CREATE INDEX newsletter_consents_newest ON newsletter_consents (customer_id, recorded_at DESC, consent_id DESC);
CREATE INDEX addresses_of_customer ON addresses (customer_id);
CREATE INDEX products_of_category ON products (category_id);
CREATE INDEX carts_of_customer ON carts (customer_id);
CREATE INDEX orders_of_customer ON orders (customer_id);
CREATE INDEX orders_shipped_to ON orders (shipping_address_id);
CREATE INDEX orders_billed_to ON orders (billing_address_id);
CREATE INDEX orders_of_cart ON orders (cart_id) WHERE cart_id IS NOT NULL;
CREATE UNIQUE INDEX codes_of_coupon ON coupon_codes (coupon_id, code_id);
CREATE UNIQUE INDEX coupon_codes_code ON coupon_codes (code);
-- Whoever else has the address of a customer. Not unique: a guest may have the address of an account.
CREATE INDEX customers_email ON customers (email);
CREATE UNIQUE INDEX orders_number ON orders (number);

ALTER TABLE customers ADD FOREIGN KEY (default_address_id) REFERENCES addresses;
ALTER TABLE addresses ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE newsletter_consents ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE newsletter_groups ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE coupon_codes ADD FOREIGN KEY (coupon_id) REFERENCES coupons;
ALTER TABLE products ADD FOREIGN KEY (category_id) REFERENCES categories;
ALTER TABLE variants ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE product_images ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE carts ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE cart_lines ADD FOREIGN KEY (cart_id) REFERENCES carts;
ALTER TABLE cart_lines ADD FOREIGN KEY (product_id, variant_id) REFERENCES variants (product_id, variant_id);
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE orders ADD FOREIGN KEY (shipping_address_id) REFERENCES addresses;
ALTER TABLE orders ADD FOREIGN KEY (billing_address_id) REFERENCES addresses;
ALTER TABLE orders ADD FOREIGN KEY (cart_id) REFERENCES carts;
ALTER TABLE order_lines ADD FOREIGN KEY (order_id) REFERENCES orders;
ALTER TABLE order_lines ADD FOREIGN KEY (product_id, variant_id) REFERENCES variants (product_id, variant_id);
ALTER TABLE order_promotions ADD FOREIGN KEY (order_id) REFERENCES orders;
